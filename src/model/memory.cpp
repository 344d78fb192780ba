// SPDX-License-Identifier: Apache-2.0
// What a model needs in memory and what the machine has.
#include "model/memory.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace etalon::model {

namespace {

/// The number in the first line of a file of the control group; `fallback` for "max" or no file.
std::uint64_t read_number(const char* path, std::uint64_t fallback) {
    std::ifstream file(path);
    std::uint64_t value = 0;
    return file >> value ? value : fallback;
}

/// The number behind `key` in a file of "key number ..." lines; `fallback` when there is none.
std::uint64_t read_entry(const char* path, const std::string& key, std::uint64_t fallback) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::string name;
        std::uint64_t value = 0;
        if (words >> name >> value && name == key) return value;
    }
    return fallback;
}

}  // namespace

std::uint64_t available_memory() {
    const std::uint64_t limit = read_number("/sys/fs/cgroup/memory.max", UINT64_MAX);
    const std::uint64_t used = read_number("/sys/fs/cgroup/memory.current", 0);
    const std::uint64_t cached = read_entry("/sys/fs/cgroup/memory.stat", "file", 0);
    const std::uint64_t held = used - std::min(used, cached);  // cached files make room when asked
    const std::uint64_t in_group = limit == UINT64_MAX ? limit : limit - std::min(limit, held);
    // Unknown reads as no limit: the check then cannot refuse.
    const std::uint64_t kib = read_entry("/proc/meminfo", "MemAvailable:", UINT64_MAX / 1024);
    return std::min(kib * 1024, in_group);
}

std::uint64_t available_memory(const backend::Backend& backend) {
    const auto own = backend.free_bytes();
    return own ? *own : available_memory();
}

std::string MemoryPlan::text() const {
    const auto mebibytes = [](std::uint64_t bytes) { return (bytes + (1 << 20) - 1) >> 20; };
    return fmt::format("{} MiB: weights {}, keys and values {}, workspace {}", mebibytes(all()),
                       mebibytes(weights), mebibytes(kv_cache), mebibytes(workspace));
}

std::uint64_t needed_memory(const weights::ModelFile& file, const backend::Backend& backend,
                            int n_tokens_max, int n_batch_max) {
    return memory_plan(file, backend, n_tokens_max, n_batch_max).all();
}

namespace {

/// One name for all tensors that are loaded as one matrix.
std::string stack_of(std::string name) {
    for (const auto& [part, stack] : {std::pair{".attn_k.", ".attn_q."},
                                      {".attn_v.", ".attn_q."},
                                      {".ffn_up.", ".ffn_gate."}}) {
        const std::size_t at = name.find(part);
        if (at != std::string::npos) return name.replace(at, std::string_view(part).size(), stack);
    }
    return name;
}

}  // namespace

MemoryPlan memory_plan(const weights::ModelFile& file, const backend::Backend& backend,
                       int n_tokens_max, int n_batch_max) {
    const weights::ModelConfig& config = file.config();
    const bool own_head = file.has("output.weight");
    std::uint64_t weights_bytes = 0;
    std::uint64_t room_bytes = 0;
    std::map<std::string, std::uint64_t> stack_bytes;  // rooms of q, k and v, of gate and up
    for (const weights::Tensor& tensor : file.tensors()) {
        const bool embedding = tensor.name == "token_embd.weight";
        // Vectors are read where they are mapped; a tied head is a copy beside the embedding.
        if (embedding) weights_bytes += backend.embedding_bytes(tensor);
        if (!embedding && tensor.n_rows == 1) weights_bytes += tensor.data.size();
        if (tensor.n_rows > 1 && !(embedding && own_head)) {
            weights_bytes += backend.linear_bytes(tensor);
            std::uint64_t& stack = stack_bytes[stack_of(tensor.name)];
            stack += backend.linear_room_bytes(tensor);
            room_bytes = std::max(room_bytes, stack);
        }
    }
    const auto u = [](int n) { return static_cast<std::uint64_t>(n); };
    const std::uint64_t kv_token =
        2 * u(config.n_layers) * u(config.n_kv_heads) * (u(config.head_dim) + sizeof(float));
    const std::uint64_t q_dim = u(config.n_heads) * u(config.head_dim);
    // With experts a token has so many rows of the feed-forward, and floats for the router.
    const std::uint64_t n_used = u(config.n_experts_used);
    const std::uint64_t routed =
        n_used == 0 ? 0 : (n_used + 1) * u(config.dim) + u(config.n_experts);
    const std::uint64_t hidden = std::max<std::uint64_t>(n_used, 1) * u(config.hidden_dim);
    const std::uint64_t batch_token =
        sizeof(float) * (3 * u(config.dim) + 4 * q_dim + 4 * hidden + routed);
    return {weights_bytes, (u(n_tokens_max) + 64) * kv_token,
            u(n_batch_max) * batch_token + room_bytes};
}

void check_memory(const weights::ModelFile& file, const backend::Backend& backend, int n_tokens_max,
                  int n_batch_max, std::uint64_t available) {
    const MemoryPlan plan = memory_plan(file, backend, n_tokens_max, n_batch_max);
    if (plan.all() <= available) return;
    throw Error(ExitCode::out_of_memory,
                fmt::format("{} needs {}; {} MiB are available", printable(file.path().string()),
                            plan.text(), available >> 20),
                "use a smaller model or a shorter context (--context)");
}

}  // namespace etalon::model
