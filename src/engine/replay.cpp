// SPDX-License-Identifier: Apache-2.0
// The teacher-forced pass, and the judge of what it gives.
#include "engine/replay.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>

#include "base/error.h"
#include "engine/answer_text.h"
#include "engine/kv_pages.h"
#include "engine/limits.h"

namespace etalon::engine {

namespace {

/// The request of the payload, as every sampler reads it.
Request masked_request(const Payload& payload, const TokenMask* mask) {
    Request request = request_of(payload);
    // The caller owns the mask, for longer than the request lives.
    request.mask = std::shared_ptr<const TokenMask>(std::shared_ptr<void>(), mask);
    return request;
}

/// Follows an answer token by token and says where it differs from what was recorded.
class Judge {
  public:
    Judge(const Payload& payload, const Request& request, const Sampler& sampler,
          const text::Tokenizer& tokenizer)
        : payload_(&payload),
          request_(&request),
          sampler_(&sampler),
          text_(tokenizer, payload.stop_strings, payload.min_tokens) {
        verdict_.finish = payload.finish;
        // A cancelled answer may have no token, and one that failed; every other one has an end.
        const bool may_be_empty =
            payload.finish == FinishReason::cancelled || payload.finish == FinishReason::error;
        if (payload.answer.empty() && !may_be_empty) verdict_.difference = Difference::finish;
    }

    /// What is derived behind the tokens that were taken; false when nothing more is to be said.
    bool take(const Derived& derived);
    const Verdict& verdict() const noexcept { return verdict_; }

  private:
    bool differs(const Derived& derived);
    bool ends(std::optional<FinishReason> end, std::size_t position);
    std::optional<FinishReason> end_behind(std::int32_t token);

    const Payload* payload_;
    const Request* request_;
    const Sampler* sampler_;
    AnswerText text_;
    Verdict verdict_;
};

bool Judge::take(const Derived& derived) {
    ETALON_ASSERT(verdict_.match());
    const auto i = static_cast<std::size_t>(verdict_.n_checked);
    const std::size_t n = payload_->answer.size();
    if (i == n) {  // behind the last token: an error was recorded here
        verdict_.derived = derived;
        const bool fails = !derived.token;
        return ends(fails ? std::optional(FinishReason::error) : std::nullopt, i);
    }
    if (differs(derived)) return false;
    ++verdict_.n_checked;
    const auto end = end_behind(payload_->answer[i]);
    if (i + 1 < n && !end) return true;
    if (i + 1 == n && !end) {
        if (payload_->finish == FinishReason::error) return true;
        if (payload_->finish == FinishReason::cancelled) return false;
    }
    // An end in the midst of the answer differs from any that was recorded behind its last token.
    if (i + 1 < n) verdict_.difference = Difference::finish;
    return ends(end, i);
}

/// Fills the verdict when token or checksum is another.
bool Judge::differs(const Derived& derived) {
    const auto i = static_cast<std::size_t>(verdict_.n_checked);
    const bool token_differs = derived.token != payload_->answer[i];
    const bool checksum_differs = derived.checksum != payload_->checksums[i];
    if (!token_differs && !checksum_differs) return false;
    verdict_.difference = !checksum_differs ? Difference::token
                          : !token_differs  ? Difference::checksum
                                            : Difference::token_and_checksum;
    verdict_.position = verdict_.n_checked;
    verdict_.token = payload_->answer[i];
    verdict_.checksum = payload_->checksums[i];
    verdict_.derived = derived;
    return true;
}

bool Judge::ends(std::optional<FinishReason> end, std::size_t position) {
    if (end != payload_->finish) verdict_.difference = Difference::finish;
    verdict_.position = static_cast<int>(position);
    verdict_.derived_finish = end;
    return false;
}

/// As Engine::end_of has it.
std::optional<FinishReason> Judge::end_behind(std::int32_t token) {
    if (sampler_->ends_answer(*request_, token)) return FinishReason::stop;
    if (text_.push(token).stop) return FinishReason::stop;
    if (verdict_.n_checked == payload_->max_tokens) return FinishReason::length;
    return std::nullopt;
}

}  // namespace

/// The tokens that go through the model; those from `first_row` on get logits.
struct Replayer::Pass {
    Pass(Payload of, const TokenMask* mask, const Sampler& sampler,
         const text::Tokenizer& tokenizer)
        : payload(std::move(of)),
          request(masked_request(payload, mask)),
          judge(payload, request, sampler, tokenizer),
          tokens(payload.prompt),
          first_row(payload.prompt.size() - 1) {
        tokens.insert(tokens.end(), payload.answer.begin(), payload.answer.end());
    }

    const Payload payload;
    const Request request;
    Judge judge;
    std::vector<std::int32_t> tokens;  ///< prompt and answer
    std::size_t n_inputs = 0;          ///< leading ones that are computed
    std::size_t first_row;             ///< the last token of the prompt
};

std::string_view difference_name(Difference difference) noexcept {
    switch (difference) {
        case Difference::none:
            break;
        case Difference::token:
            return "token";
        case Difference::checksum:
            return "checksum";
        case Difference::token_and_checksum:
            return "both";
        case Difference::finish:
            return "end";
    }
    return "match";
}

std::string Verdict::text() const {
    const auto checksum_text = [](std::optional<std::uint64_t> c) {
        return c ? fmt::format("{:016x}", *c) : std::string("none, a value is not finite");
    };
    const auto token_text = [&] {
        const std::string derived_token =
            derived.token ? fmt::format("{}", *derived.token) : "none, a value is not finite";
        return fmt::format("token: recorded {}, derived {}", token, derived_token);
    };
    const auto end_text = [](std::optional<FinishReason> end) {
        return end ? std::string(finish_name(*end)) : std::string("none");
    };
    const std::string where = fmt::format("mismatch at token {} of the answer", position);
    const std::string sums = fmt::format("checksum: recorded {}, derived {}",
                                         checksum_text(checksum), checksum_text(derived.checksum));
    switch (difference) {
        case Difference::none:
            return "match";
        case Difference::token:
            return fmt::format("{}, {}", where, token_text());
        case Difference::checksum:
            return fmt::format("{}, {}", where, sums);
        case Difference::token_and_checksum:
            return fmt::format("{}, {}, {}", where, token_text(), sums);
        case Difference::finish:
            break;
    }
    return fmt::format("{}, end: recorded {}, derived {}", where, end_text(finish),
                       end_text(derived_finish));
}

Replayer::Replayer(model::Transformer& transformer, const text::Tokenizer& tokenizer,
                   const Sha256Digest& model_sha256, int n_threads)
    : transformer_(&transformer),
      tokenizer_(&tokenizer),
      model_sha256_(model_sha256),
      pool_(n_threads),
      vocab_size_(static_cast<std::size_t>(transformer.config().vocab_size)),
      page_tables_(1) {
    ETALON_ASSERT(tokenizer.vocab_size() >= transformer.config().vocab_size);
    for (int i = 0; i < n_threads; ++i)
        samplers_.emplace_back(tokenizer, transformer.config().vocab_size, transformer.device());
    const std::size_t affordable = kReplayLogitsMax / vocab_size_;
    n_rows_max_ = std::clamp<std::size_t>(affordable, kReplayRowsMin,
                                          static_cast<std::size_t>(transformer.n_tokens_max()));
}

Replayer::~Replayer() = default;

void Replayer::check(const Payload& payload, const TokenMask* mask) const {
    check_payload(payload);
    if (payload.model_sha256 != model_sha256_) {
        throw Error(ExitCode::refused,
                    fmt::format("the answer is of model {} with SHA-256 {}, this one has {}",
                                printable(payload.model_name), to_hex(payload.model_sha256),
                                to_hex(model_sha256_)));
    }
    if (payload.arithmetic != exact::kArithmeticVersion) {
        throw Error(ExitCode::refused,
                    fmt::format("the answer is of arithmetic {}, this program computes {}",
                                payload.arithmetic, exact::kArithmeticVersion));
    }
    if (payload.mask.has_value() != (mask != nullptr)) {
        throw Error(ExitCode::invalid, payload.mask ? "the mask of the payload is missing"
                                                    : "a mask that the payload does not have");
    }
    // The last token of an answer is never computed, so it may stand behind the context.
    const weights::ModelConfig& config = transformer_->config();
    const Room room{config.vocab_size, config.context_length + 1, INT32_MAX / 2, 0};
    Request request = request_of(payload);
    // n answers were asked for, one of them is derived.
    request.n = 1;
    if (const auto bad = check_request(request, room)) {
        throw Error(ExitCode::invalid, "payload: " + bad->error.message());
    }
    for (const std::int32_t id : payload.answer) {
        if (id < config.vocab_size) continue;
        throw Error(ExitCode::invalid,
                    fmt::format("payload: token {} of the answer is outside the vocabulary of {}",
                                id, config.vocab_size));
    }
}

Verdict Replayer::replay(const Payload& payload, const TokenMask* mask) {
    begin(payload, mask);
    for (;;) {
        if (const std::optional<Verdict> verdict = advance()) return *verdict;
    }
}

void Replayer::begin(Payload payload, const TokenMask* mask) {
    check(payload, mask);
    pass_ = std::make_unique<Pass>(std::move(payload), mask, samplers_.front(), *tokenizer_);
    // An error stands behind the last token, and only then is that one computed; where the context
    // has no place for it the answer has ended before.
    const bool failed = pass_->payload.finish == FinishReason::error;
    const auto context = static_cast<std::size_t>(transformer_->config().context_length);
    pass_->n_inputs = std::min(pass_->tokens.size() - (failed ? 0 : 1), context);
    const bool is_computed = pass_->judge.verdict().match() && pass_->n_inputs > pass_->first_row;
    if (is_computed) {
        make_room(*pass_);
    } else {
        pass_->n_inputs = 0;
    }
}

std::optional<Verdict> Replayer::advance() {
    ETALON_ASSERT(pass_);
    if (pass_->n_inputs > 0 && compute(*pass_)) return std::nullopt;
    const Verdict verdict = pass_->judge.verdict();
    pass_.reset();
    return verdict;
}

void Replayer::forget() noexcept {
    pass_.reset();
    held_.clear();
}

void Replayer::clear() {
    forget();
    for (std::size_t page = 0; page < page_tables_[0].size(); ++page)
        transformer_->device().clear_page(*kv_, static_cast<int>(page));
}

/// Pages for the pass; what they hold of its beginning stays.
void Replayer::make_room(const Pass& pass) {
    const int n_pages = pages_for(static_cast<int>(pass.n_inputs));
    if (!kv_ || kv_->shape.n_pages < n_pages) {
        held_.clear();
        kv_.reset();
        kv_ = transformer_->make_kv_cache(n_pages);
        page_tables_[0].resize(static_cast<std::size_t>(n_pages));
        std::iota(page_tables_[0].begin(), page_tables_[0].end(), 0);
    }
    if (!logits_) {
        logits_ = transformer_->device().make_floats(n_rows_max_ * vocab_size_);
        rows_.resize(n_rows_max_ * vocab_size_);
        derived_.resize(n_rows_max_);
    }
    // Logits are wanted from first_row on, so that token is computed in any case.
    const std::size_t comparable = std::min(held_.size(), pass.first_row);
    std::size_t common = 0;
    while (common < comparable && held_[common] == pass.tokens[common])
        ++common;
    held_.resize(common);
}

/// A chunk of the pass; false when it is through or something differs. Example, a batch of 512 and
/// 341 rows of logits at most, a prompt of 600 and an answer of 500: 512 tokens without logits; 88,
/// the last of which has the first row, and 340 of the answer; the other 159 (the last token is
/// not computed).
bool Replayer::compute(Pass& pass) {
    const std::size_t begin = held_.size();
    const auto batch_max = static_cast<std::size_t>(transformer_->n_tokens_max());
    const std::size_t n_without = begin < pass.first_row ? pass.first_row - begin : 0;
    const std::size_t n = std::min({batch_max, pass.n_inputs - begin, n_without + n_rows_max_});
    const auto tokens = std::span(pass.tokens).subspan(begin, n);
    std::vector<std::int32_t> positions(n);
    std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(begin));
    const std::vector<std::int32_t> sequence_of(n, 0);
    std::vector<std::uint8_t> failed(n, 0);
    std::vector<std::int32_t> rows(n > n_without ? n - n_without : 0);
    std::iota(rows.begin(), rows.end(), static_cast<std::int32_t>(n_without));
    const backend::Batch batch{tokens, positions, sequence_of, page_tables_, failed};
    transformer_->forward(batch, rows, *kv_, *logits_);
    const auto bad = std::find(failed.begin(), failed.end(), 1);
    // What stands behind a failed token attends to it, so that nothing there is defined.
    std::fill(bad, failed.end(), std::uint8_t{1});
    held_.insert(held_.end(), tokens.begin(), tokens.begin() + (bad - failed.begin()));
    if (rows.empty()) {
        if (bad != failed.end()) (void)pass.judge.take({});
        return bad == failed.end();
    }
    derive(pass, begin + n_without, std::span(failed).subspan(n_without));
    bool goes_on = true;
    for (std::size_t i = 0; i < rows.size() && goes_on; ++i)
        goes_on = pass.judge.take(derived_[i]);
    ETALON_ASSERT(!goes_on || bad == failed.end());
    return goes_on && held_.size() < pass.n_inputs;
}

/// Draws the tokens behind the inputs from `first` on, all at once: the answer is given, so that no
/// draw waits for another. The logits are those of `failed.size()` rows.
void Replayer::derive(const Pass& pass, std::size_t first, std::span<const std::uint8_t> failed) {
    backend::Backend& device = transformer_->device();
    const auto vocab = static_cast<int>(vocab_size_);
    device.download(*logits_, 0, std::span(rows_).first(failed.size() * vocab_size_));
    for (std::size_t i = 0; i < failed.size(); ++i) {
        derived_[i] = {};
        if (failed[i] == 0) derived_[i].checksum = device.checksum(*logits_, i, vocab);
    }
    pool_.run(static_cast<int>(failed.size()), [&](int row, int thread) {
        const auto i = static_cast<std::size_t>(row);
        if (failed[i] != 0) return;
        const auto tokens = std::span(pass.tokens).first(first + i + 1);
        const auto logits = std::span(rows_).subspan(i * vocab_size_, vocab_size_);
        derived_[i].token = samplers_[static_cast<std::size_t>(thread)].next(
            pass.request, pass.payload.choice, tokens, pass.payload.prompt.size(), logits);
        if (!derived_[i].token) derived_[i].checksum.reset();  // ERR-3: no checksum is made of it
    });
}

}  // namespace etalon::engine
