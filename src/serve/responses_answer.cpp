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
    ResponsesAnswer(AnswerPlan plan, const ResponsesRequest& request)
        : plan_(std::move(plan)), message_id_(random_id("msg_")) {
        echo_ = {
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

  private:
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
        send("response.created", {{"response", response("in_progress")}});
        send("response.in_progress", {{"response", response("in_progress")}});
        ordered_json item = item_json("in_progress");
        item["content"] = ordered_json::array();
        send("response.output_item.added", {{"output_index", 0}, {"item", item}});
        ordered_json event = place();
        event["part"] = part_json();
        send("response.content_part.added", event);
    }

    void close() {
        const bool whole = finish_ == "stop";
        if (!plan_.stream) {
            text_ = json_text(response(whole ? "completed" : "incomplete"));
            return;
        }
        ordered_json done = place();
        done["text"] = shown_;
        done["logprobs"] = ordered_json::array();
        send("response.output_text.done", done);
        ordered_json event = place();
        event["part"] = part_json();
        send("response.content_part.done", event);
        const char* status = whole ? "completed" : "incomplete";
        send("response.output_item.done", {{"output_index", 0}, {"item", item_json(status)}});
        send(whole ? "response.completed" : "response.incomplete",
             {{"response", response(status)}});
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

    ordered_json response(const std::string& status) const {
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
        json["usage"] = {{"input_tokens", usage_.prompt_tokens},
                         {"input_tokens_details", {{"cached_tokens", usage_.cached_tokens}}},
                         {"output_tokens", usage_.answer_tokens},
                         {"output_tokens_details", {{"reasoning_tokens", 0}}},
                         {"total_tokens", usage_.prompt_tokens + usage_.answer_tokens}};
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
    std::string shown_;
    std::string digest_;
    std::uint64_t seed_ = 0;
    std::uint64_t n_events_ = 0;
};

}  // namespace

std::unique_ptr<Answer> make_responses_answer(AnswerPlan plan, const ResponsesRequest& request) {
    return std::make_unique<ResponsesAnswer>(std::move(plan), request);
}

}  // namespace etalon::serve
