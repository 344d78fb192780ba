// SPDX-License-Identifier: Apache-2.0
// Logits and their checksums on the way back: they are copied behind the kernels that make them, so
// that who asks for them after the forward pass does not stop the card again.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/cuda/common/memory.h"
#include "backend/cuda/sm80/kernels.h"
#include "backend/operations.h"

namespace etalon::backend::cuda {

class Results {
  public:
    /// Rows [n_rows, n] at `logits` are what send() is to bring, with their checksums. Rows that
    /// are too many are left to a later download.
    void fetch(const float* logits, int n_rows, int n) noexcept;
    /// Of these logits send() copies only the rows that are not drawn.
    void keep(const float* logits, std::span<const Draw> draws);
    /// Where a kernel may write the checksums of these rows: in memory of the host; null where they
    /// are not those of fetch().
    std::uint64_t* host_sums(const float* logits, std::size_t n_rows, std::size_t n, Stream stream);
    /// A kernel that is started does so.
    void set_sums_sent() noexcept { sums_sent_ = true; }
    /// Starts the copies, and what makes the checksums where no kernel does. They are no part of a
    /// recorded pass: the driver refuses one whose copies read a buffer that was freed, even when
    /// another one lies in its place.
    void send(Stream stream);
    /// All that send() started is done: what was fetched is there.
    void arrived() noexcept { ready_ = logits_ != nullptr; }
    /// Nothing of an earlier pass is known any more.
    void clear() noexcept {
        logits_ = nullptr;
        ready_ = false;
        sums_sent_ = false;
        kept_.clear();
    }
    /// `buffer` is about to be written.
    void forget(const float* buffer) noexcept {
        if (buffer == logits_) clear();
    }

    /// False when the card has to be asked.
    bool copy(const float* logits, std::size_t offset, std::span<float> to) const;
    std::optional<std::uint64_t> checksum(const float* logits, std::size_t row,
                                          std::size_t n) const;

  private:
    void send_sums(Stream stream);
    bool keeps(std::size_t row) const { return copies_ && (kept_.empty() || kept_[row] != 0); }

    const float* logits_ = nullptr;   // on the card
    bool copies_ = false;             // the rows are not too many
    std::vector<std::uint8_t> kept_;  // [n_rows] the row is copied; empty: all are
    std::size_t n_rows_ = 0;
    std::size_t n_ = 0;
    bool ready_ = false;
    bool sums_sent_ = false;
    PinnedBytes host_;  // rows
    PinnedBytes host_sums_;
    DeviceArray<std::uint64_t> sums_;
};

}  // namespace etalon::backend::cuda
