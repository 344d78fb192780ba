// SPDX-License-Identifier: Apache-2.0
// Memory of the card and pinned memory of the host.
#include "backend/cuda/common/memory.h"

#include <cuda_runtime_api.h>

#include "backend/cuda/common/error.h"

namespace etalon::backend::cuda {

void* allocate_device(std::size_t bytes) {
    void* address = nullptr;
    check_allocation(cudaMalloc(&address, bytes), bytes);
    check(cudaMemset(address, 0, bytes), "clearing new memory");
    return address;
}

// An error here was reported by the call that caused it.
void free_device(void* address) noexcept {
    if (address != nullptr) (void)cudaFree(address);
}

void* allocate_pinned(std::size_t bytes) {
    void* address = nullptr;
    check_allocation(cudaMallocHost(&address, bytes), bytes);
    return address;
}

void free_pinned(void* address) noexcept {
    if (address != nullptr) (void)cudaFreeHost(address);
}

void copy_to_device(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "copy to the card");
}

void copy_to_host(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "copy from the card");
}

}  // namespace etalon::backend::cuda
