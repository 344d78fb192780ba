// SPDX-License-Identifier: Apache-2.0
// One sequence through the transformer, with pages of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace etalon::model {

/// Which positions of an append get logits, and with them a checksum.
enum class LogitsWanted : std::uint8_t { last, all };

///   Session session(transformer, 4096);
///   session.append(prompt, 512, LogitsWanted::last);
///   auto next = exact::sample(..., session.last_logits());
class Session {
  public:
    /// Room for `n_tokens_max` tokens, at most the model's context; allocated here.
    Session(Transformer& transformer, int n_tokens_max);

    /// Runs `tokens` (at least one) behind those of the session, at most `chunk` at a time (0: the
    /// transformer's largest batch). The chunk changes no bit.
    /// Errors: usage (no room: both counts), failure (a value is not finite, ERR-1: the token).
    void append(std::span<const std::int32_t> tokens, int chunk, LogitsWanted wanted);

    /// Forgets all tokens from `n_tokens` on.
    void truncate(int n_tokens);

    const std::vector<std::int32_t>& tokens() const noexcept { return tokens_; }
    int n_tokens_max() const noexcept { return n_tokens_max_; }
    /// Logits behind the last token; a copy that the sampler may change.
    std::vector<float> last_logits() const { return last_logits_; }
    /// CHK-1 at every position that had logits, by position; 0 where none were wanted.
    const std::vector<std::uint64_t>& checksums() const noexcept { return checksums_; }
    /// With LogitsWanted::all: called for each position with its logits, in order.
    std::function<void(int position, std::span<const float> logits)> on_logits;

  private:
    void run_chunk(std::span<const std::int32_t> tokens, LogitsWanted wanted, bool is_last);

    Transformer* transformer_;
    int n_tokens_max_;
    std::unique_ptr<backend::KvCache> kv_;
    std::unique_ptr<backend::FloatBuffer> logits_;  // [logits_rows_, vocab_size]
    std::vector<std::vector<std::int32_t>> page_tables_;
    std::vector<std::int32_t> tokens_;
    std::vector<std::uint64_t> checksums_;
    std::vector<float> last_logits_;
};

}  // namespace etalon::model
