// SPDX-License-Identifier: Apache-2.0
// The ring of pinned memory.
#include "backend/cuda/loader.h"

#include <algorithm>
#include <cstring>
#include <cuda_runtime_api.h>

#include "backend/cuda/common/error.h"

namespace etalon::backend::cuda {

namespace {

/// Of a slot: long enough that starting a copy costs nothing, short enough that the first one soon
/// begins.
constexpr std::size_t kSlotBytes = std::size_t{16} << 20;
/// Of a thread at a time.
constexpr std::size_t kPieceBytes = std::size_t{512} << 10;

}  // namespace

ThreadPool& Loader::threads() {
    if (!threads_) threads_ = std::make_unique<ThreadPool>(usable_processors());
    return *threads_;
}

void Loader::copy(void* to, std::span<const std::byte> from) {
    if (!ring_) ring_ = std::make_unique<std::array<Slot, kSlots>>();
    for (std::size_t begin = 0; begin < from.size(); begin += kSlotBytes) {
        const auto part = from.subspan(begin, std::min(kSlotBytes, from.size() - begin));
        Slot& slot = (*ring_)[next_];
        next_ = (next_ + 1) % kSlots;
        slot.bytes.reserve(kSlotBytes);
        slot.left.wait();
        const std::size_t n_pieces = (part.size() + kPieceBytes - 1) / kPieceBytes;
        threads().run(static_cast<int>(n_pieces), [&](int piece, int) {
            const std::size_t first = static_cast<std::size_t>(piece) * kPieceBytes;
            std::memcpy(slot.bytes.data() + first, part.data() + first,
                        std::min(kPieceBytes, part.size() - first));
        });
        check(cudaMemcpyAsync(static_cast<std::byte*>(to) + begin, slot.bytes.data(), part.size(),
                              cudaMemcpyHostToDevice, stream_),
              "weights to the card");
        slot.left.record(stream_);
    }
}

std::byte* Loader::scratch(std::size_t bytes) {
    scratch_.reserve(bytes);  // frees the old memory, which waits for the card
    return scratch_.data();
}

void Loader::release() {
    if (!ring_) return;
    check(cudaStreamSynchronize(stream_), "weights to the card");
    ring_.reset();
    threads_.reset();
    scratch_ = DeviceArray<std::byte>();
}

}  // namespace etalon::backend::cuda
