// SPDX-License-Identifier: Apache-2.0
// Derives the answer of a payload again: one pass over prompt and answer, teacher-forced, every
// token drawn again from its logits by the sampler, and compared with the recorded one.
//
//   Replayer replayer(transformer, tokenizer, weights::model_hash(file), n_threads);
//   const Verdict verdict = replayer.replay(payload);
//   if (!verdict.match()) fmt::print("{}\n", verdict.text());
//
// What is derived does not depend on the backend, on threads or on how the answer was computed
// first, so a verdict is about the payload and the weights alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "base/thread_pool.h"
#include "engine/payload.h"
#include "engine/sampler.h"
#include "model/transformer.h"
#include "text/tokenizer.h"

namespace etalon::engine {

enum class Difference : std::uint8_t {
    none,                ///< match
    token,               ///< another token is drawn from the same logits
    checksum,            ///< the same token from other logits
    token_and_checksum,  ///< both
    finish,              ///< all tokens are right, the end is not
};

/// A token as it is derived; what is absent could not be: a value is not finite (ERR-1 to ERR-3).
struct Derived {
    std::optional<std::int32_t> token;
    std::optional<std::uint64_t> checksum;
};

/// "match", "token", "checksum", "both", "end": as records of replays have it.
std::string_view difference_name(Difference difference) noexcept;

struct Verdict {
    Difference difference = Difference::none;
    int n_checked = 0;  ///< leading tokens of the answer that agree
    /// What differs first, as recorded and as derived: index into the answer (0: the first token of
    /// the answer), and with Difference::finish the token behind which the ends differ.
    int position = 0;
    std::int32_t token = 0;
    std::uint64_t checksum = 0;
    Derived derived;
    FinishReason finish = FinishReason::stop;
    std::optional<FinishReason> derived_finish;  ///< absent: the answer goes on

    bool match() const noexcept { return difference == Difference::none; }
    /// One line: "match", or where and why not.
    std::string text() const;
};

class Replayer {
  public:
    /// Transformer and tokenizer outlive the object. Tokens are drawn by `n_threads` threads, which
    /// rest while the model computes.
    Replayer(model::Transformer& transformer, const text::Tokenizer& tokenizer,
             const Sha256Digest& model_sha256, int n_threads);
    ~Replayer();
    Replayer(const Replayer&) = delete;
    Replayer& operator=(const Replayer&) = delete;

    /// `mask` is what the payload's MaskSource means; null exactly where the payload has none. Keys
    /// of a prompt are kept for the next payload that begins alike, such as another choice.
    /// Errors: refused (the payload is of another model or arithmetic), invalid (a value that no
    /// request to this model can have, a mask that is missing).
    Verdict replay(const Payload& payload, const TokenMask* mask = nullptr);

    /// As replay(), a batch of the model at a time, for who has other work between: begin(), then
    /// advance() until it gives the verdict. Errors: of begin() as of replay().
    void begin(Payload payload, const TokenMask* mask = nullptr);
    std::optional<Verdict> advance();

    /// The next replay computes all of its prompt. What was begun is given up.
    void forget() noexcept;
    /// forget(), and the pages hold nothing any more.
    void clear();

  private:
    struct Pass;

    void check(const Payload& payload, const TokenMask* mask) const;
    void make_room(const Pass& pass);
    bool compute(Pass& pass);
    void derive(const Pass& pass, std::size_t first, std::span<const std::uint8_t> failed);

    model::Transformer* transformer_;
    const text::Tokenizer* tokenizer_;
    Sha256Digest model_sha256_;
    ThreadPool pool_;
    std::vector<Sampler> samplers_;  // one a thread
    std::size_t vocab_size_;
    std::size_t n_rows_max_;                        // logits that are held at once
    std::unique_ptr<backend::FloatBuffer> logits_;  // [n_rows_max_, vocab_size_]
    std::vector<float> rows_;                       // a copy that the sampler changes
    std::vector<Derived> derived_;                  // of the rows of a chunk

    std::unique_ptr<backend::KvCache> kv_;
    std::vector<std::vector<std::int32_t>> page_tables_;
    std::vector<std::int32_t> held_;  // tokens whose keys and values are in kv_
    std::unique_ptr<Pass> pass_;      // what was begun
};

}  // namespace etalon::engine
