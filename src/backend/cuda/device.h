// SPDX-License-Identifier: Apache-2.0
// One card as the backend uses it: its stream and its constants.
#pragma once

#include <string>

#include "backend/cuda/common/memory.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm90/kernels.h"

namespace etalon::backend::cuda {

/// Made current by the constructor and by use(); a thread calls use() before anything else.
class Device {
  public:
    /// Errors: unavailable (no such card, too old, or no driver).
    Device(int index, CudaKernels kernels);
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    void use() const;
    Stream stream() const noexcept { return stream_; }
    int n_multiprocessors() const noexcept { return n_multiprocessors_; }
    /// Whether to launch the kernels of sm90/.
    bool has_sm90() const noexcept { return has_sm90_; }
    /// For one launch after the other on stream(); none where has_sm90() is false.
    SplitSums split_sums() const noexcept;
    /// A room for the rows of one matrix, which kernels make for the one behind them on stream().
    /// reserve_e8_rows() may give it another address, e8_rows() is for at most what was reserved.
    void reserve_e8_rows(std::size_t bytes) { e8_rows_.reserve(bytes); }
    std::int8_t* e8_rows(std::size_t bytes) const;
    std::size_t free_bytes() const;
    /// Constants of ROT-4 for length m, odd in [3, 15].
    const float* dct_table(int m) const;

  private:
    int index_;
    Stream stream_ = nullptr;
    int n_multiprocessors_ = 0;
    bool has_sm90_ = false;
    DeviceArray<float> dct_tables_;
    DeviceArray<std::int32_t> sums_;
    DeviceArray<std::uint32_t> counts_;
    DeviceArray<std::int8_t> e8_rows_;
};

}  // namespace etalon::backend::cuda
