// SPDX-License-Identifier: Apache-2.0
// What a worker answers, message by message. Values in, values out: no socket, no clock.
//
//   Service service(model, draw_seed);
//   service.handle(message, now);  // throws Error(invalid) when the front broke the protocol
//   service.step(now);             // one pass of the model
//   for (const ToFront& reply : service.take_replies()) ...
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/event.h"
#include "engine/replay.h"
#include "wire/messages.h"
#include "worker/loaded_model.h"
#include "worker/prompt.h"

namespace etalon::worker {

class Service {
  public:
    /// `draw_seed` gives the seeds of requests without one. The model outlives the service.
    Service(LoadedModel& model, std::function<std::uint64_t()> draw_seed);

    /// Errors: invalid (ids do not ascend, Go for a request that is not prepared, anything that
    /// asks for work behind Drain). A field that is wrong is no error but Refused.
    void handle(wire::ToWorker message, engine::Time now);

    /// Does nothing when nothing is to be computed.
    void step(engine::Time now);
    bool has_work() const noexcept { return model_->engine().has_work() || replay_.has_value(); }

    /// What was said since the last call, in order.
    std::vector<wire::ToFront> take_replies() { return std::exchange(replies_, {}); }

    /// Drain has come and nothing is prepared or runs.
    bool is_drained() const noexcept {
        return draining_ && prepared_.empty() && running_.empty() && embeds_.empty();
    }

  private:
    struct Running {
        wire::RequestId id = 0;
        std::vector<std::string> stop_strings;
        std::int64_t held_tokens = 0;
    };
    /// Each input is a request of the engine.
    struct Embedding {
        std::vector<engine::RequestId> inputs;
        std::size_t n_left = 0;
        wire::Embedded answer;
        std::string error;  ///< why there is no answer
        bool cancelled = false;
    };
    struct Input {
        wire::RequestId embed = 0;
        std::size_t index = 0;
        std::int64_t held_tokens = 0;
    };

    /// An answer that is derived again between two requests.
    struct Replay {
        wire::RequestId id = 0;
        engine::Time asked{};
        std::unique_ptr<engine::Replayer> replayer;
    };

    void take(wire::Prepare prepare, engine::Time now);
    void take(const wire::Go& go, engine::Time now);
    void take(const wire::Cancel& cancel, engine::Time now);
    void take(const wire::Tokenize& tokenize, engine::Time now);
    void take(const wire::Detokenize& detokenize, engine::Time now);
    void take(const wire::Embed& embed, engine::Time now);
    void take(const wire::AskCounters& ask, engine::Time now);
    void take(const wire::AskLive& ask, engine::Time now);
    void take(const wire::AskReplay& ask, engine::Time now);
    void take(const wire::Forget& forget, engine::Time now);
    void take(const wire::Drain& drain, engine::Time now);

    void tell(const engine::TokenEvent& event);
    void tell(const engine::ChoiceFinished& event);
    void tell(const engine::RequestFinished& event);
    void tell(const engine::PromptLogprobs& event);
    void tell(const engine::EmbeddingEvent& event);
    void tell_input(Input input);
    void advance_replay();
    void give_up_replay(const std::string& why);

    void check_id(wire::RequestId id);
    void refuse(wire::RequestId id, PromptRefusal why);
    bool has_place(wire::RequestId id, std::size_t n_requests, std::int64_t more);
    wire::Logprobs logprobs_of(std::int32_t token, const engine::TokenLogprobs& logprobs) const;

    LoadedModel* model_;
    std::function<std::uint64_t()> draw_seed_;
    bool draining_ = false;
    wire::RequestId last_id_ = 0;
    std::map<wire::RequestId, engine::Request> prepared_;
    std::map<engine::RequestId, Running> running_;
    std::map<wire::RequestId, engine::RequestId> engine_ids_;  // of running_
    std::map<wire::RequestId, Embedding> embeds_;
    std::map<engine::RequestId, Input> inputs_;  // of embeds_
    std::int64_t held_tokens_ = 0;               // of both, as the engine counts them
    std::optional<Replay> replay_;
    std::vector<wire::ToFront> replies_;
};

}  // namespace etalon::worker
