// SPDX-License-Identifier: Apache-2.0
// Forward passes as CUDA graphs.
#include "backend/cuda/graphs.h"

#include <algorithm>
#include <cuda_runtime_api.h>

#include "backend/cuda/common/error.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

/// Passes that are kept: numbers of tokens times lengths of contexts in powers of two.
constexpr std::size_t kEntriesMax = 128;

void destroy(CUgraphExec_st* graph) noexcept {
    if (graph != nullptr) (void)cudaGraphExecDestroy(graph);
}

}  // namespace

bool Graphs::begin(const GraphKey& key, Stream stream) {
    ETALON_ASSERT(!recording_);
    const auto known = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const Entry& entry) { return entry.key == key; });
    if (known == entries_.end()) {
        if (entries_.size() == kEntriesMax) {
            destroy(entries_.back().graph);
            entries_.pop_back();
        }
        entries_.push_front({key, nullptr});
        return false;
    }
    entries_.splice(entries_.begin(), entries_, known);
    Entry& entry = entries_.front();
    if (entry.graph != nullptr) {
        check(cudaGraphLaunch(entry.graph, stream), "recorded forward pass");
        return true;
    }
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording");
    recording_ = true;
    return false;
}

void Graphs::finish(Stream stream) {
    if (!recording_) return;
    recording_ = false;
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream, &graph), "recording");
    Entry& entry = entries_.front();
    const cudaError_t code = cudaGraphInstantiate(&entry.graph, graph, 0);
    (void)cudaGraphDestroy(graph);
    check(code, "recorded forward pass");
    check(cudaGraphLaunch(entry.graph, stream), "recorded forward pass");
}

void Graphs::abandon(Stream stream) noexcept {
    if (!recording_) return;
    recording_ = false;
    cudaGraph_t graph = nullptr;
    (void)cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
}

void Graphs::clear() noexcept {
    for (const Entry& entry : entries_)
        destroy(entry.graph);
    entries_.clear();
}

}  // namespace etalon::backend::cuda
