// SPDX-License-Identifier: Apache-2.0
// What several commands make before they compute.
#include "cli/load.h"

#include <cstdlib>
#include <fmt/format.h>

#include "base/error.h"
#include "base/thread_pool.h"

namespace etalon::cli {

std::unique_ptr<backend::Backend> make_backend(const std::string& name, int n_threads) {
    ETALON_ASSERT(name == "cpu" || name == "exact");
    if (name == "exact") return backend::make_exact_backend(n_threads);
    return backend::make_cpu_backend(backend::choose_isa(std::getenv("ETALON_ISA")), n_threads);
}

int threads_or_all(int n_threads) {
    return n_threads > 0 ? n_threads : usable_processors();
}

text::Tokenizer load_tokenizer(const weights::ModelFile& file) {
    try {
        return text::Tokenizer(file.tokenizer());
    } catch (const Error& error) {
        const std::string name = printable(file.path().string());
        throw Error(error.code(), fmt::format("{} ({})", error.message(), name), error.hint());
    }
}

}  // namespace etalon::cli
