// SPDX-License-Identifier: Apache-2.0
// The tokens of a forward pass on the card.
#pragma once

#include <vector>

#include "backend/cuda/common/memory.h"
#include "backend/cuda/sm80/kernels.h"
#include "backend/operations.h"

namespace etalon::backend::cuda {

/// Between begin() and finish() the view is that of one batch.
class DeviceBatch {
  public:
    /// Sends the batch; the copy is on `stream`.
    void begin(const Batch& batch, Stream stream);
    /// Waits for all work on `stream` and brings the flags back.
    void finish(const Batch& batch, Stream stream);

    bool is_open() const noexcept { return open_; }
    /// The flags on the card, and where a kernel may write them for finish(): in memory of the
    /// host.
    const std::uint8_t* flags() const noexcept { return view_.failed; }
    std::uint8_t* host_flags() const noexcept;
    /// The last kernel that can set flags is ahead of one that writes them there, or it is not.
    void set_flags_sent(bool sent) noexcept { flags_sent_ = sent; }
    /// Whether this is the batch that was begun.
    bool holds(const Batch& batch) const noexcept;
    const BatchView& view() const noexcept { return view_; }

  private:
    bool open_ = false;
    bool flags_sent_ = false;
    const std::int32_t* tokens_ = nullptr;  // of the caller: to know the batch again
    PinnedBytes host_;
    DeviceArray<std::byte> device_;
    std::size_t failed_offset_ = 0;
    BatchView view_;
};

}  // namespace etalon::backend::cuda
