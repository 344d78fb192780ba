// SPDX-License-Identifier: Apache-2.0
// One message of text; as a stream, events that open and close each level around it.
#include "serve/responses_answer.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "serve/site.h"

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;

class ResponsesAnswer : public Answer {
  public:
    ResponsesAnswer(AnswerPlan plan, ResponsesRequest request, std::vector<std::string> subjects,
                    bool names_account)
        : plan_(std::move(plan)), message_id_(random_id("msg_")) {
        turn_.input = std::move(request.input);
        turn_.subjects = std::move(subjects);
        turn_.names_account = names_account;
        ordered_json metadata = ordered_json::object();
        for (const auto& [name, value] : request.metadata)
            metadata[name] = value;
        echo_ = {
            {"metadata", std::move(metadata)},
            {"previous_response_id",
             request.previous.empty() ? ordered_json(nullptr) : ordered_json(request.previous)},
            {"store", request.store},
            {"instructions", request.instructions.empty() ? ordered_json(nullptr)
                                                          : ordered_json(request.instructions)},
            {"max_output_tokens", request.sampling.max_tokens
                                      ? ordered_json(*request.sampling.max_tokens)
                                      : ordered_json(nullptr)},
            {"temperature", request.sampling.temperature},
            {"top_p", request.sampling.top_p}};
    }

    void take(std::size_t /*part*/, const wire::ToFront& message) override {
        if (const auto* prepared = std::get_if<wire::Prepared>(&message)) {
            seed_ = prepared->seed;
            if (plan_.stream) open();
        } else if (const auto* token = std::get_if<wire::Token>(&message)) {
            show(token->text);
        } else if (const auto* end = std::get_if<wire::ChoiceEnd>(&message)) {
            on_choice_end(*end);
        } else if (const auto* last = std::get_if<wire::RequestEnd>(&message)) {
            usage_.add(*last);
            close();
        }
    }

    std::string stored_text(const wire::RequestEnd& end) const override {
        Usage usage = usage_;
        usage.add(end);
        StoredTurn turn = turn_;
        turn.response = response(final_status(), usage);
        return turn_text(turn);
    }

  private:
    const char* final_status() const { return finish_ == "stop" ? "completed" : "incomplete"; }

    void on_choice_end(const wire::ChoiceEnd& end) {
        if (end.reason == wire::EndReason::error || end.reason == wire::EndReason::cancelled) {
            throw ApiError(500, "server_error", "generation_failed",
                           end.error.empty() ? "the answer was ended" : end.error);
        }
        show(end.text);
        digest_ = end.digest;
        finish_ = end.reason == wire::EndReason::stop ? "stop" : "length";
    }

    void show(const std::string& text) {
        if (text.empty()) return;
        shown_ += text;
        if (!plan_.stream) return;
        ordered_json event = place();
        event["delta"] = text;
        event["logprobs"] = ordered_json::array();
        send("response.output_text.delta", event);
    }

    void open() {
        send("response.created", {{"response", response("in_progress", usage_)}});
        send("response.in_progress", {{"response", response("in_progress", usage_)}});
        ordered_json item = item_json("in_progress");
        item["content"] = ordered_json::array();
        send("response.output_item.added", {{"output_index", 0}, {"item", item}});
        ordered_json event = place();
        event["part"] = part_json();
        send("response.content_part.added", event);
    }

    void close() {
        const char* status = final_status();
        if (!plan_.stream) {
            text_ = json_text(response(status, usage_));
            return;
        }
        ordered_json done = place();
        done["text"] = shown_;
        done["logprobs"] = ordered_json::array();
        send("response.output_text.done", done);
        ordered_json event = place();
        event["part"] = part_json();
        send("response.content_part.done", event);
        send("response.output_item.done", {{"output_index", 0}, {"item", item_json(status)}});
        send(std::string("response.") + status, {{"response", response(status, usage_)}});
    }

    /// Where an event happens: in the one part of the one item.
    ordered_json place() const {
        return {{"item_id", message_id_}, {"output_index", 0}, {"content_index", 0}};
    }
    ordered_json part_json() const {
        return {{"type", "output_text"},
                {"text", shown_},
                {"annotations", ordered_json::array()},
                {"logprobs", ordered_json::array()}};
    }
    ordered_json item_json(const char* status) const {
        return {{"id", message_id_},
                {"type", "message"},
                {"status", status},
                {"role", "assistant"},
                {"content", ordered_json::array({part_json()})}};
    }

    ordered_json response(const std::string& status, const Usage& usage) const {
        const bool ended = status != "in_progress";
        ordered_json json{{"id", plan_.id},
                          {"object", "response"},
                          {"created_at", plan_.created},
                          {"status", status},
                          {"background", false},
                          {"error", nullptr},
                          {"incomplete_details", nullptr},
                          {"model", plan_.model},
                          {"output", ordered_json::array()},
                          {"parallel_tool_calls", true},
                          {"previous_response_id", nullptr},
                          {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
                          {"store", false},
                          {"text", {{"format", {{"type", "text"}}}}},
                          {"tool_choice", "auto"},
                          {"tools", ordered_json::array()},
                          {"truncation", "disabled"},
                          {"usage", nullptr},
                          {"metadata", ordered_json::object()}};
        json.update(echo_);
        if (status == "incomplete") json["incomplete_details"]["reason"] = "max_output_tokens";
        if (!ended) return json;
        json["output"].push_back(item_json(status.c_str()));
        json["usage"] = {{"input_tokens", usage.prompt_tokens},
                         {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
                         {"output_tokens", usage.answer_tokens},
                         {"output_tokens_details", {{"reasoning_tokens", 0}}},
                         {"total_tokens", usage.prompt_tokens + usage.answer_tokens}};
        json["etalon"] = {{"seed", seed_}, {"digests", {digest_}}};
        if (!receipt_.empty()) json["etalon"]["receipt"] = receipt_;
        return json;
    }

    void send(const std::string& type, const ordered_json& body) {
        ordered_json event{{"type", type}, {"sequence_number", n_events_++}};
        event.update(body);
        text_ += "event: " + type + "\n" + event_text(event);
    }

    AnswerPlan plan_;
    std::string message_id_;
    ordered_json echo_;
    StoredTurn turn_;  ///< but for the response
    std::string shown_;
    std::string digest_;
    std::uint64_t seed_ = 0;
    std::uint64_t n_events_ = 0;
};

}  // namespace

std::unique_ptr<Answer> make_responses_answer(AnswerPlan plan, ResponsesRequest request,
                                              std::vector<std::string> subjects,
                                              bool names_account) {
    return std::make_unique<ResponsesAnswer>(std::move(plan), std::move(request),
                                             std::move(subjects), names_account);
}

}  // namespace etalon::serve
