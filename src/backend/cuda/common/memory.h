// SPDX-License-Identifier: Apache-2.0
// Memory of the card and pinned memory of the host, freed with their owner.
//   DeviceArray<float> y(n);            // zero
//   y.upload(host.data(), n);           // waits
#pragma once

#include <bit>
#include <cstddef>
#include <utility>

#include "base/error.h"

namespace etalon::backend::cuda {

/// `bytes` of the card, aligned to 256, zero at first. Errors: out_of_memory.
void* allocate_device(std::size_t bytes);
void free_device(void* address) noexcept;
void* allocate_pinned(std::size_t bytes);
void free_pinned(void* address) noexcept;
/// Copies that return when they are done. Calls after them see the data.
void copy_to_device(void* to, const void* from, std::size_t bytes);
void copy_to_host(void* to, const void* from, std::size_t bytes);

template <typename T>
class DeviceArray {
  public:
    DeviceArray() = default;
    explicit DeviceArray(std::size_t size)
        : data_(size == 0 ? nullptr : static_cast<T*>(allocate_device(size * sizeof(T)))),
          size_(size) {}
    ~DeviceArray() { free_device(data_); }
    DeviceArray(DeviceArray&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    DeviceArray& operator=(DeviceArray&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    T* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

    /// At least `size` elements; what was in it is lost when it grows.
    void reserve(std::size_t size) {
        if (size <= size_) return;
        *this = DeviceArray();  // the old memory is free before the new is asked for
        *this = DeviceArray(size);
    }
    /// The same, to a power of two: what grows by little at a time grows seldom.
    void grow(std::size_t size) {
        if (size > size_) reserve(std::bit_ceil(size));
    }
    void upload(const T* from, std::size_t n, std::size_t offset = 0) {
        ETALON_ASSERT(offset <= size_ && n <= size_ - offset);
        if (n > 0) copy_to_device(data_ + offset, from, n * sizeof(T));
    }
    void download(T* to, std::size_t n, std::size_t offset = 0) const {
        ETALON_ASSERT(offset <= size_ && n <= size_ - offset);
        if (n > 0) copy_to_host(to, data_ + offset, n * sizeof(T));
    }

  private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Bytes of the host that the card copies from without a stop between.
class PinnedBytes {
  public:
    PinnedBytes() = default;
    ~PinnedBytes() { free_pinned(data_); }
    PinnedBytes(const PinnedBytes&) = delete;
    PinnedBytes& operator=(const PinnedBytes&) = delete;

    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    void reserve(std::size_t size) {
        if (size <= size_) return;
        free_pinned(std::exchange(data_, nullptr));
        size_ = 0;
        data_ = static_cast<std::byte*>(allocate_pinned(size));
        size_ = size;
    }
    void grow(std::size_t size) {
        if (size > size_) reserve(std::bit_ceil(size));
    }

  private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace etalon::backend::cuda
