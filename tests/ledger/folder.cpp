// SPDX-License-Identifier: Apache-2.0
#include "ledger/folder.h"

#include <cstdlib>
#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sha256.h"

namespace etalon::ledger {

Folder::Folder() {
    // Memory, where there is such a file system: an fsync costs milliseconds elsewhere.
    const std::filesystem::path memory = "/dev/shm";
    const bool has_memory = ::access(memory.c_str(), W_OK | X_OK) == 0;
    const auto parent = has_memory ? memory : std::filesystem::temp_directory_path();
    std::string name = (parent / "etalon-ledger-XXXXXX").string();
    ETALON_ASSERT(::mkdtemp(name.data()) != nullptr);
    path_ = name;
}

Folder::~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

ExitCode code_of(const std::function<void()>& act) {
    try {
        act();
    } catch (const Error& error) {
        return error.code();
    }
    return ExitCode::ok;
}

LedgerOptions options_in(const Folder& folder) {
    LedgerOptions options;
    options.folder = folder.path() / "ledger";
    options.program = "test 1";
    options.origin_start = "test.example";
    return options;
}

ModelLoad some_model() {
    return {std::string(64, 'a'), "tiny", "llama", "cpu/generic", 2, 128, 300};
}

EvidenceSource some_evidence() {
    return [](const std::map<std::uint64_t, ModelLoad>& loads) {
        std::map<std::string, std::string> files{{kSandboxPath, "{}\n"}};
        for (const auto& [index, load] : loads) {
            files[bom_path(load.model)] = fmt::format("{{\"model\":\"{}\"}}\n", load.model);
            files[signature_path(load.model)] = "{}\n";
        }
        return files;
    };
}

Stamp some_stamp(std::uint64_t size, const std::string& note) {
    const Sha256Digest digest = sha256(std::as_bytes(std::span(note)));
    return {size, note,
            "stamp " + std::string(reinterpret_cast<const char*>(digest.data()), digest.size())};
}

RequestIntent some_request(std::uint64_t load, std::size_t n_parts, std::uint64_t n) {
    RequestIntent request;
    request.tenant = "default";
    request.load = load;
    request.body = "{\"prompt\":\"Hello\"}";
    for (std::size_t i = 0; i < n_parts; ++i)
        request.parts.push_back({fmt::format("[1,{}]", i), "{\"n\":1}", 2, n, 16});
    return request;
}

Completion some_completion(std::uint64_t intent, std::uint64_t n) {
    Completion completion{intent, {}};
    for (std::uint64_t k = 0; k < n; ++k) {
        completion.answers.push_back({"stop", 3 + k, std::string(64, 'd'),
                                      fmt::format("{{\"choice\":{}}}", k),
                                      fmt::format("answer {} of {}\n\u00e9", k, intent)});
    }
    return completion;
}

}  // namespace etalon::ledger
