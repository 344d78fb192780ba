// SPDX-License-Identifier: Apache-2.0
// `etalon chat`: a conversation with a running server, on a terminal.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/api_client.h"
#include "cli/chat_stream.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/output.h"

#include "base/error.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

constexpr const char* kHelp =
    "/clear          forget the conversation\n"
    "/system [TEXT]  set the system message, or remove it; forgets the conversation\n"
    "/model [NAME]   use another model, or list those that are served\n"
    "/help           this text\n"
    "/quit           end, as Ctrl-D does; Ctrl-C ends a running answer\n";

struct ChatOptions {
    ServerOptions server;
    std::string model;
    std::string system;
    std::optional<double> temperature;
    std::optional<double> top_p;
    std::optional<std::int64_t> seed;
    std::optional<int> max_tokens;
};

class Chat {
  public:
    explicit Chat(const ChatOptions& options)
        : options_(options), client_(find_server(options.server)) {
        const std::vector<std::string> models = served_models();
        if (models.empty()) throw Error(ExitCode::unavailable, "the server has no model");
        if (options_.model.empty()) options_.model = models.front();
        clear();
    }

    void run() {
        std::fprintf(stderr, "%s at %s; /help, end with Ctrl-D\n",
                     printable(options_.model).c_str(), client_.address().url().c_str());
        std::string line;
        for (;;) {
            std::fputs("> ", stderr);
            forget_interrupt();
            if (!std::getline(std::cin, line)) break;
            if (line == "/quit") return;
            if (line.empty()) continue;
            if (line.front() == '/') {
                obey(line);
            } else {
                answer(line);
            }
        }
        std::fputs("\n", stderr);
    }

  private:
    std::vector<std::string> served_models() const {
        const ApiResponse response = client_.get("/v1/models");
        if (response.status != 200) throw_api_error(response);
        const auto body = ordered_json::parse(response.body, nullptr, false);
        std::vector<std::string> ids;
        if (!body.is_object() || !body.contains("data") || !body["data"].is_array()) {
            throw Error(ExitCode::invalid, "the list of models is not understood");
        }
        for (const auto& model : body["data"]) {
            if (model.is_object()) ids.push_back(model.value("id", ""));
        }
        return ids;
    }

    void clear() {
        messages_ = ordered_json::array();
        if (!options_.system.empty()) {
            messages_.push_back({{"role", "system"}, {"content", options_.system}});
        }
    }

    void obey(const std::string& line) {
        const std::size_t space = std::min(line.find(' '), line.size());
        const std::string command = line.substr(0, space);
        const std::string rest = line.substr(std::min(space + 1, line.size()));
        if (command == "/clear") {
            clear();
        } else if (command == "/system") {
            options_.system = rest;
            clear();
        } else if (command == "/model" && !rest.empty()) {
            options_.model = rest;
        } else if (command == "/model") {
            for (const std::string& id : served_models())
                std::fprintf(stderr, "%s\n", printable(id).c_str());
        } else if (command == "/help") {
            std::fputs(kHelp, stderr);
        } else {
            std::fprintf(stderr, "unknown command %s; /help lists them\n",
                         printable(command).c_str());
        }
    }

    std::string request_text() const {
        ordered_json body{{"model", options_.model},
                          {"messages", messages_},
                          {"stream", true},
                          {"stream_options", {{"include_usage", true}}}};
        if (options_.temperature) body["temperature"] = *options_.temperature;
        if (options_.top_p) body["top_p"] = *options_.top_p;
        if (options_.seed) body["seed"] = *options_.seed;
        if (options_.max_tokens) body["max_tokens"] = *options_.max_tokens;
        return body.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    }

    /// One turn. A turn that failed is forgotten, so that the person can try again.
    void answer(const std::string& text) {
        messages_.push_back({{"role", "user"}, {"content", text}});
        ChatStream stream;
        try {
            const ApiResponse response =
                client_.post("/v1/chat/completions", request_text(), [&](std::string_view piece) {
                    print(terminal_text(stream.take(piece)));
                    return !is_interrupted();
                });
            if (response.status != 200) throw_api_error(response);
            if (!stream.error().empty()) throw Error(ExitCode::failure, stream.error());
        } catch (const Error& error) {
            if (error.code() != ExitCode::interrupted) {
                messages_.erase(messages_.size() - 1);
                std::fprintf(stderr, "etalon: error: %s\n",
                             printable(error.message(), 1000).c_str());
                return;
            }
        }
        print("\n");
        messages_.push_back({{"role", "assistant"}, {"content", stream.text()}});
        if (::isatty(STDERR_FILENO) != 0 && stream.n_answer() > 0) {
            std::fprintf(stderr, "[prompt %lld tokens, answer %lld]\n",
                         static_cast<long long>(stream.n_prompt()),
                         static_cast<long long>(stream.n_answer()));
        }
    }

    ChatOptions options_;
    ApiClient client_;
    ordered_json messages_;
};

void chat(const ChatOptions& options) {
    catch_interrupt();
    Chat(options).run();
}

}  // namespace

void add_chat(CLI::App& app) {
    CLI::App* command = app.add_subcommand("chat", "talk to a running server");
    const auto options = std::make_shared<ChatOptions>();
    add_server_options(*command, options->server);
    command->add_option("--model", options->model, "name of a model; else the first one served");
    command->add_option("--system", options->system, "system message");
    command->add_option("--temperature", options->temperature, "0: the likeliest token, always");
    command->add_option("--top-p", options->top_p, "smallest set of this share");
    command->add_option("--seed", options->seed, "seed; drawn when absent");
    command->add_option("--max-tokens", options->max_tokens, "longest answer");
    command->callback([options] { chat(*options); });
}

}  // namespace etalon::cli
