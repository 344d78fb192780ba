// SPDX-License-Identifier: Apache-2.0
// Logits and their checksums on the way back (spec CHK-1).
#include "backend/cuda/results.h"

#include <algorithm>
#include <cstring>
#include <cuda_runtime_api.h>

#include "backend/cuda/common/error.h"

namespace etalon::backend::cuda {

namespace {

/// Rows of this many floats are kept on the host: 128 rows of a vocabulary of 131,072.
constexpr std::size_t kFloatsMax = std::size_t{1} << 24;

bool fits(int n_rows, int n) noexcept {
    return static_cast<std::size_t>(n_rows) * static_cast<std::size_t>(n) <= kFloatsMax;
}

}  // namespace

std::uint64_t* Results::host_sums(const float* logits, std::size_t n_rows, std::size_t n,
                                  Stream stream) {
    if (logits_ == nullptr || logits != logits_ || n_rows != n_rows_ || n != n_) return nullptr;
    const std::size_t bytes = n_rows_ * sizeof(std::uint64_t);
    if (bytes > host_sums_.size()) check(cudaStreamSynchronize(stream), "forward pass");
    host_sums_.grow(bytes);
    return reinterpret_cast<std::uint64_t*>(host_sums_.data());
}

void Results::send_sums(Stream stream) {
    if (sums_sent_) return;
    if (n_rows_ > sums_.size()) check(cudaStreamSynchronize(stream), "forward pass");
    sums_.grow(n_rows_);
    launch_checksum(logits_, static_cast<int>(n_rows_), n_, sums_.data(), stream);
    check(cudaMemcpyAsync(host_sums(logits_, n_rows_, n_, stream), sums_.data(),
                          n_rows_ * sizeof(std::uint64_t), cudaMemcpyDeviceToHost, stream),
          "checksums from the card");
}

void Results::send(Stream stream) {
    if (logits_ == nullptr) return;
    send_sums(stream);
    std::size_t n_kept = n_rows_;  // rows up to the last one that is kept
    while (n_kept > 0 && !keeps(n_kept - 1))
        --n_kept;
    host_.grow(n_kept * n_ * sizeof(float));
    for (std::size_t row = 0; row < n_rows_;) {
        std::size_t end = row;
        while (end < n_rows_ && keeps(end))
            ++end;
        if (end > row) {
            check(cudaMemcpyAsync(host_.data() + row * n_ * sizeof(float), logits_ + row * n_,
                                  (end - row) * n_ * sizeof(float), cudaMemcpyDeviceToHost, stream),
                  "logits from the card");
        }
        row = end + 1;
    }
}

void Results::keep(const float* logits, std::span<const Draw> draws) {
    if (logits != logits_ || draws.size() != n_rows_) return;
    kept_.resize(n_rows_);
    std::transform(draws.begin(), draws.end(), kept_.begin(),
                   [](const Draw& draw) { return draw.parameters == nullptr ? 1 : 0; });
}

void Results::fetch(const float* logits, int n_rows, int n) noexcept {
    clear();
    logits_ = logits;
    copies_ = fits(n_rows, n);
    n_rows_ = static_cast<std::size_t>(n_rows);
    n_ = static_cast<std::size_t>(n);
}

bool Results::copy(const float* logits, std::size_t offset, std::span<float> to) const {
    const std::size_t floats = n_rows_ * n_;
    if (!ready_ || logits != logits_ || offset > floats || to.size() > floats - offset)
        return false;
    for (std::size_t row = offset / n_; row * n_ < offset + to.size(); ++row) {
        if (!keeps(row)) return false;
    }
    std::memcpy(to.data(), host_.data() + offset * sizeof(float), to.size_bytes());
    return true;
}

std::optional<std::uint64_t> Results::checksum(const float* logits, std::size_t row,
                                               std::size_t n) const {
    if (!ready_ || logits != logits_ || n != n_ || row >= n_rows_) return std::nullopt;
    std::uint64_t sum = 0;
    std::memcpy(&sum, host_sums_.data() + row * sizeof(sum), sizeof(sum));
    return sum;
}

}  // namespace etalon::backend::cuda
