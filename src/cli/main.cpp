// SPDX-License-Identifier: Apache-2.0
// The program `etalon`: parses the command line, runs one command, turns errors into messages and
// exit codes.
#include <CLI/CLI.hpp>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "cli/commands.h"

#include "base/error.h"
#include "base/float_mode.h"

namespace {

using etalon::Error;
using etalon::ExitCode;

constexpr std::size_t kMessageBytesMax = 1000;

int report(const Error& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "etalon: error: %s\n",
                 etalon::printable(error.message(), kMessageBytesMax).c_str());
    if (!error.hint().empty()) {
        std::fprintf(stderr, "etalon: hint: %s\n",
                     etalon::printable(error.hint(), kMessageBytesMax).c_str());
    }
    return static_cast<int>(error.code());
}

/// The parser's own message in the form of ours: lower case, no full stop, no control characters.
Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
    std::string message = error.what();
    // What the parser did not understand explains more than what it missed because of it.
    const std::vector<std::string> unknown = app.remaining(true);
    if (!unknown.empty()) {
        const bool is_command = app.get_subcommands().empty() && unknown[0].rfind('-', 0) != 0;
        message = (is_command ? "unknown command " : "unexpected argument ") + unknown[0];
    }
    while (!message.empty() && (message.back() == '.' || message.back() == '\n'))
        message.pop_back();
    const bool is_word = message.size() > 1 && std::islower(static_cast<unsigned char>(message[1]));
    if (is_word || message.rfind("A ", 0) == 0) {
        message[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(message[0])));
    }
    std::string command = "etalon";
    for (const CLI::App* sub : app.get_subcommands())
        command += " " + sub->get_name();
    return Error(ExitCode::usage, message, command + " --help");
}

void describe(CLI::App& app) {
    app.name("etalon");
    app.description(
        "Integer-exact inference of open-weight language models: every bit of an answer is\n"
        "defined, whatever the machine.");
    app.set_version_flag("--version", "etalon " ETALON_VERSION);
    app.require_subcommand(1);
    app.footer("Results go to stdout, messages to stderr. `etalon COMMAND --help` says more.");
    etalon::cli::add_run(app);
    etalon::cli::add_replay(app);
    etalon::cli::add_serve(app);
    etalon::cli::add_chat(app);
    etalon::cli::add_ps(app);
    etalon::cli::add_stop(app);
    etalon::cli::add_key(app);
    etalon::cli::add_ledger(app);
    etalon::cli::add_audit(app);
    etalon::cli::add_config(app);
    etalon::cli::add_show(app);
    etalon::cli::add_licence(app);
    etalon::cli::add_tokenize(app);
    etalon::cli::add_import(app);
    etalon::cli::add_sign(app);
    etalon::cli::add_verify(app);
    etalon::cli::add_eval(app);
    etalon::cli::add_bench(app);
    etalon::cli::add_courier(app);
    etalon::cli::add_doctor(app);
    etalon::cli::add_erase(app);
    etalon::cli::add_backup(app);
    etalon::cli::add_witness(app);
    etalon::cli::add_worker(app);
}

int parse_and_run(int argc, char** argv) {
    CLI::App app;
    describe(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& request) {  // --help, --version
        return app.exit(request);
    } catch (const CLI::ParseError& error) {
        return report(usage_error(app, error));
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    // A reader that has seen enough (`| head`) ends the program quietly, even where the parent
    // process ignores the signal.
    std::signal(SIGPIPE, SIG_DFL);
    etalon::assert_float_mode();
    try {
        return parse_and_run(argc, argv);
    } catch (const Error& error) {
        return report(error);
    } catch (const std::bad_alloc&) {
        return report(Error(ExitCode::out_of_memory, "out of memory",
                            "use a smaller model or a shorter context"));
    } catch (const std::exception& error) {
        return report(Error(ExitCode::failure, error.what()));
    }
}
