// SPDX-License-Identifier: Apache-2.0
// What a card can do at most: bytes read from its memory, int8 products.
#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "backend/cuda/common/event.h"
#include "backend/cuda/common/memory.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/device.h"
#include "backend/cuda/sm90/kernels.h"

namespace etalon::backend {

namespace {

constexpr int kRuns = 11;

/// The median of what `work` says it did, a second.
double rate_of(const cuda::Device& device, const std::function<double()>& work) {
    cuda::Event begin;
    cuda::Event end;
    std::array<double, kRuns> rates{};
    for (double& rate : rates) {
        begin.record(device.stream());
        const double amount = work();
        end.record(device.stream());
        rate = amount / (static_cast<double>(end.since(begin)) * 1e-3);
    }
    std::nth_element(rates.begin(), rates.begin() + kRuns / 2, rates.end());
    return rates[kRuns / 2];
}

}  // namespace

std::optional<double> cuda_read_speed(int index) {
    constexpr std::size_t kBytes = std::size_t{4} << 30;  // far beyond the second cache
    const cuda::Device device(index, CudaKernels::best);
    const std::size_t bytes =
        std::min(kBytes, device.free_bytes() / 4) & ~((std::size_t{1} << 20) - 1);
    const cuda::DeviceArray<std::byte> data(bytes);
    const cuda::DeviceArray<std::uint32_t> sink(1);
    return rate_of(device, [&] {
        cuda::launch_read(data.data(), bytes, sink.data(), device.stream());
        return static_cast<double>(bytes);
    });
}

std::optional<double> cuda_integer_peak(int index) {
    constexpr int kTurns = 20000;  // some milliseconds
    const cuda::Device device(index, CudaKernels::best);
    const int n = device.n_multiprocessors();
    const cuda::DeviceArray<int> sink(static_cast<std::size_t>(n) * cuda::kPeakSink);
    return rate_of(device, [&] {
        return device.has_sm90()
                   ? cuda::launch_integer_peak_sm90(kTurns, n, sink.data(), device.stream())
                   : cuda::launch_integer_peak(kTurns, n, sink.data(), device.stream());
    });
}

}  // namespace etalon::backend
