// SPDX-License-Identifier: Apache-2.0
// The tokens of a forward pass on the card.
#pragma once

#include <cstdint>

#include "backend/cuda/common/memory.h"
#include "backend/cuda/draws.h"
#include "backend/cuda/sm80/kernels.h"
#include "backend/operations.h"

namespace etalon::backend::cuda {

/// The host's side of a batch: what is copied to the card, and where its flags come back.
class HostBatch {
  public:
    /// Whether this is the batch that was sent last.
    bool holds(const Batch& batch) const noexcept;
    /// The flags on the card, and where a kernel may write them for arrived(): in memory of the
    /// host.
    const std::uint8_t* flags() const noexcept { return flags_; }
    std::uint8_t* host_flags() const noexcept;
    /// The last kernel that can set flags is ahead of one that writes them there, or it is not.
    void set_flags_sent(bool sent) noexcept { flags_sent_ = sent; }
    /// Starts the copy of the flags where no kernel brings them.
    void send_flags(Stream stream);
    /// They are there: the flags of `batch`.
    void arrived(const Batch& batch) const;

  private:
    friend class DeviceBatch;

    const std::int32_t* tokens_ = nullptr;  // of the caller: to know the batch again
    std::size_t n_tokens_ = 0;
    PinnedBytes bytes_;
    std::size_t failed_offset_ = 0;
    const std::uint8_t* flags_ = nullptr;
    bool flags_sent_ = false;
};

/// The view is that of the batch that was sent last. There is one copy on the card, at an address
/// that seldom changes: recorded passes (graphs.h) read it. The stream orders who uses it.
class DeviceBatch {
  public:
    /// Sends the batch; the copy is on `stream`, and nothing there uses `host` any more. `before`:
    /// what the pass before draws, which tokens may name (token_drawn_by()); null: no token does.
    void send(const Batch& batch, const Draws* before, HostBatch& host, Stream stream);

    const BatchView& view() const noexcept { return view_; }

  private:
    DeviceArray<std::byte> device_;
    BatchView view_;
};

}  // namespace etalon::backend::cuda
