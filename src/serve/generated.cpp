// SPDX-License-Identifier: Apache-2.0
// Choices grow token by token; a shape turns them into the JSON of a route.
#include "serve/generated.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;

/// What public APIs send for a token that cannot be.
constexpr double kLogprobLowest = -9999.0;

double logprob_of(float value) {
    return std::isfinite(value) ? std::max(static_cast<double>(value), kLogprobLowest)
                                : kLogprobLowest;
}

/// A piece of one choice: text, and log-probabilities of the tokens in it.
struct Piece {
    std::string text;
    std::vector<wire::Logprobs> logprobs;
    std::size_t n_prompt = 0;  ///< of the tokens; the first one has nothing before it
    bool empty() const { return text.empty() && logprobs.empty(); }
};

/// The JSON of one route.
class Shape {
  public:
    virtual ~Shape() = default;
    virtual const char* whole_object() const = 0;
    virtual const char* chunk_object() const = 0;
    /// Without index and finish_reason. `offset`: characters of the choice before this piece.
    virtual ordered_json whole(const Piece& piece, bool has_logprobs) const = 0;
    virtual ordered_json chunk(const Piece& piece, bool has_logprobs, std::size_t offset) const = 0;
    /// The first chunk of each choice; null where the route has none.
    virtual ordered_json first_chunk() const { return nullptr; }
};

ordered_json token_json(const wire::TokenLogprob& token) {
    ordered_json bytes = ordered_json::array();
    for (const char c : token.bytes)
        bytes.push_back(static_cast<unsigned char>(c));
    // Clients of Mistral's dialect drop log-probabilities without the id; others ignore it.
    return {{"token", token.bytes},
            {"logprob", logprob_of(token.logprob)},
            {"bytes", bytes},
            {"token_id", token.token}};
}

class ChatShape : public Shape {
  public:
    explicit ChatShape(Dialect dialect) : dialect_(dialect) {}
    const char* whole_object() const override { return "chat.completion"; }
    const char* chunk_object() const override { return "chat.completion.chunk"; }

    ordered_json whole(const Piece& piece, bool has_logprobs) const override {
        ordered_json message{{"role", "assistant"}, {"content", piece.text}};
        if (dialect_ == Dialect::openai) {
            message["refusal"] = nullptr;
        } else {
            message["tool_calls"] = nullptr;
        }
        return {{"message", message}, {"logprobs", logprobs_json(piece, has_logprobs)}};
    }
    ordered_json chunk(const Piece& piece, bool has_logprobs,
                       std::size_t /*offset*/) const override {
        ordered_json delta = ordered_json::object();
        if (!piece.empty() || dialect_ == Dialect::mistral) delta["content"] = piece.text;
        return {{"delta", delta}, {"logprobs", logprobs_json(piece, has_logprobs)}};
    }
    ordered_json first_chunk() const override {
        return {{"delta", {{"role", "assistant"}, {"content", ""}}}, {"logprobs", nullptr}};
    }

  private:
    static ordered_json logprobs_json(const Piece& piece, bool has_logprobs) {
        if (!has_logprobs) return nullptr;
        ordered_json content = ordered_json::array();
        for (const wire::Logprobs& logprobs : piece.logprobs) {
            ordered_json entry = token_json(logprobs.chosen);
            entry["top_logprobs"] = ordered_json::array();
            for (const wire::TokenLogprob& top : logprobs.top)
                entry["top_logprobs"].push_back(token_json(top));
            content.push_back(std::move(entry));
        }
        return {{"content", content}, {"refusal", nullptr}};
    }

    Dialect dialect_;
};

class CompletionShape : public Shape {
  public:
    const char* whole_object() const override { return "text_completion"; }
    const char* chunk_object() const override { return "text_completion"; }

    ordered_json whole(const Piece& piece, bool has_logprobs) const override {
        return chunk(piece, has_logprobs, 0);
    }
    ordered_json chunk(const Piece& piece, bool has_logprobs, std::size_t offset) const override {
        return {{"text", piece.text}, {"logprobs", logprobs_json(piece, has_logprobs, offset)}};
    }

  private:
    static ordered_json logprobs_json(const Piece& piece, bool has_logprobs, std::size_t offset) {
        if (!has_logprobs) return nullptr;
        ordered_json json{{"tokens", ordered_json::array()},
                          {"token_logprobs", ordered_json::array()},
                          {"top_logprobs", ordered_json::array()},
                          {"text_offset", ordered_json::array()}};
        const std::size_t start = offset;
        std::size_t n_prompt = piece.n_prompt;
        bool unknown = n_prompt > 0;
        for (const wire::Logprobs& logprobs : piece.logprobs) {
            ordered_json top = ordered_json::object();
            for (const wire::TokenLogprob& token : logprobs.top)
                top[token.bytes] = logprob_of(token.logprob);
            json["tokens"].push_back(logprobs.chosen.bytes);
            json["token_logprobs"].push_back(
                unknown ? ordered_json() : ordered_json(logprob_of(logprobs.chosen.logprob)));
            json["top_logprobs"].push_back(unknown ? ordered_json() : std::move(top));
            json["text_offset"].push_back(offset);
            const std::string& bytes = logprobs.chosen.bytes;
            offset += n_prompt > 0 ? shown_bytes(bytes, piece.text, offset - start) : bytes.size();
            n_prompt -= std::min<std::size_t>(n_prompt, 1);
            unknown = false;
        }
        return json;
    }

    /// How far a token of a prompt moves on in the text: not at all where it is a marker that is
    /// not in it, and without the space that some vocabularies put before a text.
    static std::size_t shown_bytes(std::string_view token, std::string_view text,
                                   std::size_t offset) {
        const std::string_view rest = text.substr(std::min(offset, text.size()));
        if (rest.substr(0, token.size()) == token) return token.size();
        const bool has_space = !token.empty() && token.front() == ' ';
        if (has_space && rest.substr(0, token.size() - 1) == token.substr(1)) {
            return token.size() - 1;
        }
        return 0;
    }
};

class Generated : public Answer {
  public:
    Generated(AnswerPlan plan, std::unique_ptr<Shape> shape)
        : plan_(std::move(plan)), shape_(std::move(shape)) {
        choices_.resize(plan_.n_parts * static_cast<std::size_t>(plan_.n));
        seeds_.resize(plan_.n_parts);
        prompts_.resize(plan_.n_parts);
    }

    void take(std::size_t part, const wire::ToFront& message) override {
        if (const auto* prepared = std::get_if<wire::Prepared>(&message)) {
            on_prepared(part, *prepared);
        } else if (const auto* told = std::get_if<wire::PromptLogprobs>(&message)) {
            on_prompt_logprobs(part, *told);
        } else if (const auto* token = std::get_if<wire::Token>(&message)) {
            on_token(part, *token);
        } else if (const auto* choice_end = std::get_if<wire::ChoiceEnd>(&message)) {
            on_choice_end(part, *choice_end);
        } else if (const auto* end = std::get_if<wire::RequestEnd>(&message)) {
            on_request_end(*end);
        }
    }

  private:
    struct Choice {
        Piece whole;                  ///< what was shown (kept only where the answer is no stream)
        std::optional<Piece> latest;  ///< of the newest token, until the next says it is no end
        std::size_t n_shown = 0;      ///< bytes of text that were shown
        std::string finish;
        std::string digest;
    };

    std::size_t index_of(std::size_t part, int choice) const {
        ETALON_ASSERT(part < plan_.n_parts);
        ETALON_ASSERT(choice >= 0 && choice < plan_.n);
        return part * static_cast<std::size_t>(plan_.n) + static_cast<std::size_t>(choice);
    }

    void on_prepared(std::size_t part, const wire::Prepared& prepared) {
        seeds_[part] = prepared.seed;
        for (int i = 0; i < plan_.n; ++i) {
            const std::size_t index = index_of(part, i);
            const ordered_json first = plan_.stream ? shape_->first_chunk() : ordered_json();
            if (!first.is_null()) send_chunk(index, first, nullptr, nullptr);
            if (plan_.prefixes.empty() || plan_.prompt_logprobs) continue;
            send(index, {plan_.prefixes[part].value_or(""), {}});
        }
        prompts_[part].n_tokens = prepared.prompt.size();
    }

    /// The prefix goes out once all of its tokens are known: they come before every other token.
    void on_prompt_logprobs(std::size_t part, const wire::PromptLogprobs& told) {
        if (!plan_.prompt_logprobs) return;
        Prompt& prompt = prompts_[part];
        prompt.logprobs.insert(prompt.logprobs.end(), told.tokens.begin(), told.tokens.end());
        if (prompt.logprobs.size() < prompt.n_tokens) return;
        Piece piece{"", std::move(prompt.logprobs), prompt.n_tokens};
        for (const wire::Logprobs& one : piece.logprobs)
            piece.text += one.chosen.bytes;
        piece.text = plan_.prefixes[part].value_or(piece.text);
        for (int i = 0; i < plan_.n; ++i)
            send(index_of(part, i), piece);
    }

    void on_token(std::size_t part, const wire::Token& token) {
        const std::size_t index = index_of(part, token.choice);
        Choice& choice = choices_[index];
        Piece piece{token.text, {}};
        if (!plan_.has_logprobs) {
            show(index, std::move(piece));
            return;
        }
        // The token that ends an answer has no place among its log-probabilities.
        if (token.logprobs) piece.logprobs.push_back(*token.logprobs);
        if (choice.latest) show(index, std::move(*choice.latest));
        choice.latest = std::move(piece);
    }

    void on_choice_end(std::size_t part, const wire::ChoiceEnd& end) {
        const std::size_t index = index_of(part, end.choice);
        Choice& choice = choices_[index];
        if (end.reason == wire::EndReason::error || end.reason == wire::EndReason::cancelled) {
            throw ApiError(500, "server_error", "generation_failed",
                           end.error.empty() ? "the answer was ended" : end.error);
        }
        Piece last = choice.latest.value_or(Piece{});
        choice.latest.reset();
        const bool by_token = end.reason == wire::EndReason::stop && !end.stop_string;
        if (by_token && !last.logprobs.empty()) last.logprobs.pop_back();
        last.text += end.text;
        show(index, std::move(last));
        choice.finish = finish_reason(end.reason);
        choice.digest = end.digest;
        if (finish_.empty()) finish_ = choice.finish;
        if (!plan_.stream) return;
        // The last chunk of all waits for the usage, which some clients look for in it.
        if (held_) send_finish(*held_, nullptr);
        held_ = index;
    }

    void on_request_end(const wire::RequestEnd& end) {
        usage_.add(end);
        ++n_ended_;
        if (n_ended_ < plan_.n_parts) return;
        if (!plan_.stream) {
            text_ = json_text(whole_json());
            return;
        }
        if (!held_) throw ApiError(500, "server_error", "no_choice", "the answer has no choice");
        send_finish(*held_, plan_.dialect == Dialect::mistral ? usage_json() : ordered_json());
        if (plan_.dialect == Dialect::openai && plan_.include_usage) {
            ordered_json chunk = envelope(shape_->chunk_object());
            chunk["choices"] = ordered_json::array();
            chunk["usage"] = usage_json();
            text_ += event_text(chunk);
        }
        text_ += kDoneEvent;
    }

    /// Generated text: not where the prompt alone is asked for.
    void show(std::size_t index, Piece piece) {
        if (!plan_.only_prefix) send(index, std::move(piece));
    }

    void send(std::size_t index, Piece piece) {
        Choice& choice = choices_[index];
        if (piece.empty()) return;
        const std::size_t offset = choice.n_shown;
        choice.n_shown += piece.text.size();
        if (plan_.stream) {
            send_chunk(index, shape_->chunk(piece, plan_.has_logprobs, offset), nullptr, nullptr);
            return;
        }
        choice.whole.n_prompt += piece.n_prompt;
        choice.whole.text += piece.text;
        std::move(piece.logprobs.begin(), piece.logprobs.end(),
                  std::back_inserter(choice.whole.logprobs));
    }

    std::string finish_reason(wire::EndReason reason) const {
        // Of an answer that is not shown nobody sees how it ended.
        if (plan_.only_prefix && reason == wire::EndReason::stop) return "length";
        if (reason == wire::EndReason::stop) return "stop";
        const bool window = plan_.dialect == Dialect::mistral && !plan_.has_max_tokens;
        return window ? "model_length" : "length";
    }

    ordered_json envelope(const char* object) const {
        return {{"id", plan_.id},
                {"object", object},
                {"created", plan_.created},
                {"model", plan_.model},
                {"system_fingerprint", plan_.fingerprint}};
    }

    void send_chunk(std::size_t index, const ordered_json& choice, const ordered_json& finish,
                    ordered_json usage) {
        ordered_json chunk = envelope(shape_->chunk_object());
        ordered_json entry{{"index", index}};
        entry.update(choice);
        entry["finish_reason"] = finish;
        const bool is_last = !finish.is_null();
        chunk["choices"] = ordered_json::array({std::move(entry)});
        if (!usage.is_null()) {
            chunk["usage"] = std::move(usage);
        } else if (plan_.dialect == Dialect::openai && plan_.include_usage) {
            chunk["usage"] = nullptr;
        }
        if (is_last) chunk["etalon"] = etalon_json({index});
        text_ += event_text(chunk);
    }

    void send_finish(std::size_t index, ordered_json usage) {
        send_chunk(index, shape_->chunk({}, false, choices_[index].n_shown), choices_[index].finish,
                   std::move(usage));
    }

    /// What replays the answer: the seed, and the digest of each of these choices.
    ordered_json etalon_json(const std::vector<std::size_t>& indices) const {
        ordered_json json{{"seed", seeds_[indices.front() / static_cast<std::size_t>(plan_.n)]}};
        json["digests"] = ordered_json::array();
        for (const std::size_t index : indices)
            json["digests"].push_back(choices_[index].digest);
        if (!receipt_.empty()) json["receipt"] = receipt_;
        return json;
    }

    ordered_json usage_json() const {
        const std::int64_t rejected = usage_.drafted_tokens - usage_.accepted_tokens;
        ordered_json json{{"prompt_tokens", usage_.prompt_tokens},
                          {"completion_tokens", usage_.answer_tokens},
                          {"total_tokens", usage_.prompt_tokens + usage_.answer_tokens},
                          {"prompt_tokens_details", {{"cached_tokens", usage_.cached_tokens}}},
                          {"completion_tokens_details",
                           {{"reasoning_tokens", 0},
                            {"accepted_prediction_tokens", usage_.accepted_tokens},
                            {"rejected_prediction_tokens", rejected}}}};
        if (plan_.dialect == Dialect::mistral) json["num_cached_tokens"] = usage_.cached_tokens;
        return json;
    }

    ordered_json whole_json() const {
        ordered_json json = envelope(shape_->whole_object());
        json["choices"] = ordered_json::array();
        std::vector<std::size_t> indices;
        for (std::size_t i = 0; i < choices_.size(); ++i) {
            ordered_json entry{{"index", i}};
            entry.update(shape_->whole(choices_[i].whole, plan_.has_logprobs));
            entry["finish_reason"] = choices_[i].finish;
            json["choices"].push_back(std::move(entry));
            indices.push_back(i);
        }
        json["usage"] = usage_json();
        json["etalon"] = etalon_json(indices);
        return json;
    }

    AnswerPlan plan_;
    std::unique_ptr<Shape> shape_;
    std::vector<Choice> choices_;
    std::vector<std::uint64_t> seeds_;
    struct Prompt {
        std::size_t n_tokens = 0;
        std::vector<wire::Logprobs> logprobs;  ///< until all have come
    };
    std::vector<Prompt> prompts_;  // by part
    std::size_t n_ended_ = 0;
    std::optional<std::size_t> held_;  ///< the choice whose last chunk waits
};

}  // namespace

std::unique_ptr<Answer> make_chat_answer(AnswerPlan plan) {
    auto shape = std::make_unique<ChatShape>(plan.dialect);
    return std::make_unique<Generated>(std::move(plan), std::move(shape));
}

std::unique_ptr<Answer> make_completion_answer(AnswerPlan plan) {
    return std::make_unique<Generated>(std::move(plan), std::make_unique<CompletionShape>());
}

}  // namespace etalon::serve
