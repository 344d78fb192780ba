// SPDX-License-Identifier: Apache-2.0
// An engine as a worker makes one, and as many requests as are asked for.
#include "cli/many_requests.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <utility>
#include <variant>

#include "cli/load.h"

#include "base/error.h"
#include "engine/engine.h"
#include "exact/attention.h"
#include "model/memory.h"
#include "worker/limits.h"

namespace etalon::cli {

namespace {

using Clock = std::chrono::steady_clock;

engine::Request request_of(const ManyRequests& many, int number) {
    engine::Request request;
    request.tenant = "bench";
    request.cache_key = fmt::format("{}", number);  // nothing of another request's is found
    request.sampling.temperature = 1.0F;
    request.seed = static_cast<std::uint64_t>(number);
    request.max_tokens = many.n_answer;
    request.ignore_eos = true;
    return request;
}

/// From the first submit() to the last event.
double seconds_of(engine::Engine& engine, const ManyRequests& many,
                  const std::vector<std::int32_t>& prompt) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < many.n_requests; ++i) {
        engine::Request request = request_of(many, i);
        request.prompt = prompt;
        const auto submitted = engine.submit(std::move(request), Clock::now() - start);
        if (const auto* refusal = std::get_if<engine::Refusal>(&submitted)) {
            const Error& why = refusal->error;
            throw Error(why.code(), why.message(), why.hint());
        }
    }
    std::size_t n_tokens = 0;
    while (engine.has_work()) {
        for (const engine::Event& event : engine.step(Clock::now() - start)) {
            n_tokens += std::holds_alternative<engine::TokenEvent>(event) ? 1 : 0;
        }
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (n_tokens !=
        static_cast<std::size_t>(many.n_requests) * static_cast<std::size_t>(many.n_answer)) {
        throw Error(ExitCode::failure, fmt::format("{} tokens were drawn of {} answers of {}",
                                                   n_tokens, many.n_requests, many.n_answer));
    }
    return seconds;
}

}  // namespace

ManyRequestsTime measure_many_requests(const weights::ModelFile& file, backend::Backend& device,
                                       const ManyRequests& many, int repetitions) {
    const bool card = device.free_bytes().has_value();
    ManyRequestsTime time;
    time.n_streams = card ? worker::kCardSequencesMax : worker::kSequencesMax;
    if (many.n_streams > 0) time.n_streams = many.n_streams;
    time.n_batch =
        std::max(card ? worker::kCardBatchTokens : worker::kBatchTokens, 2 * time.n_streams);
    const int room = many.n_prompt + many.n_answer;
    engine::EngineOptions options;
    options.n_pages = time.n_streams * (room / exact::kPageTokens + 2);
    options.batch_tokens = time.n_batch;
    options.sequences_max = time.n_streams;
    options.overlap = card;
    options.draft_tokens_max = 0;  // random answers repeat nothing
    model::check_memory(file, device, options.n_pages * exact::kPageTokens, time.n_batch,
                        model::available_memory(device));
    const text::Tokenizer tokenizer = load_tokenizer(file);
    model::Transformer transformer(file, device, time.n_batch);
    engine::Engine engine(transformer, tokenizer, options);
    const auto prompt = some_tokens(many.n_prompt, file.config().vocab_size);
    for (int i = 0; i <= repetitions; ++i) {
        const std::uint64_t steps = engine.counters().steps;
        const double seconds = seconds_of(engine, many, prompt);
        if (i > 0) time.seconds.push_back(seconds);  // the first one brings the weights to memory
        time.n_steps = engine.counters().steps - steps;
        engine.forget_prefixes();
    }
    return time;
}

}  // namespace etalon::cli
