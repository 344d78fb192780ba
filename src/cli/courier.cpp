// SPDX-License-Identifier: Apache-2.0
// `etalon courier`: carries the checkpoints of this machine's log to its witnesses and to a time
// stamping authority, and keeps what they sign. A process of its own: the server opens no
// connection, and this one sees no prompt.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fmt/format.h>
#include <map>
#include <memory>
#include <optional>
#include <thread>

#include "cli/api_client.h"
#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/output.h"
#include "cli/stamper.h"

#include "base/error.h"
#include "base/file.h"
#include "ledger/ledger.h"
#include "ledger/limits.h"
#include "ledger/stamps.h"
#include "tlog/tree.h"
#include "tlog/witness.h"

namespace etalon::cli {

namespace {

constexpr std::chrono::seconds kWitnessTime{10};
constexpr std::uint64_t kEverySecondsMax = 86400;

struct CourierOptions {
    std::string ledger;
    std::string policy;
    std::string ca_file;
    std::uint64_t every = 10;  // seconds
    bool once = false;
    StamperOptions stamper;
};

/// What a person put into policy.txt, or --policy names; with stamps alone that is not needed.
std::string policy_text(const CourierOptions& options, const std::filesystem::path& folder) {
    if (!options.policy.empty()) return read_file(options.policy, tlog::kPolicyBytesMax);
    if (!options.stamper.url.empty()) return ledger::own_policy_text(folder);
    return read_file(folder / ledger::kPolicyFile, tlog::kPolicyBytesMax);
}

class Courier {
  public:
    explicit Courier(const CourierOptions& options)
        : options_(options), folder_(ledger_folder(options.ledger)) {
        policy_ = tlog::parse_policy(policy_text(options, folder_));
        if (!options.stamper.url.empty()) stamper_.emplace(options.stamper);
        if (policy_.urls.empty() && !stamper_) {
            throw Error(ExitCode::usage, "the policy names no witness with an address",
                        "a line: witness NAME KEY https://HOST, or --tsa URL for time stamps");
        }
        for (const auto& [name, url] : policy_.urls)
            (void)parse_server_url(split_url(url).first);
    }

    /// True: the newest checkpoint has its quorum. Errors: with --once those of Stamper::stamp.
    bool run_once() {
        const bool is_done = carry();
        stamp();
        return is_done;
    }

  private:
    /// True: the newest checkpoint has its quorum.
    bool carry() {
        const tlog::FileSource files = ledger::log_files(folder_);
        const auto signed_text = files("checkpoint");
        if (!signed_text) {
            throw Error(ExitCode::not_found,
                        fmt::format("{} has no ledger", printable(folder_.string())));
        }
        tlog::Note note = tlog::parse_note(*signed_text);
        const tlog::Checkpoint checkpoint = tlog::parse_checkpoint(note.text);
        if (checkpoint.size == done_) return true;
        read_cosigned(files);
        for (const auto& [name, url] : policy_.urls) {
            try {
                note.signatures.push_back(ask(name, url, files, checkpoint, *signed_text));
                seen_[name] = checkpoint.size;
            } catch (const Error& error) {
                std::fprintf(stderr, "etalon: witness %s: %s\n", printable(name).c_str(),
                             printable(error.message(), 500).c_str());
            }
        }
        try {
            (void)tlog::open_checkpoint(note, policy_);
        } catch (const Error& error) {
            std::fprintf(stderr, "etalon: %s\n", error.message().c_str());
            return false;
        }
        // Without witnesses the log's own checkpoint is what there is.
        if (!policy_.urls.empty()) keep(tlog::note_text(note));
        done_ = checkpoint.size;
        unstamped_ = {checkpoint.size, tlog::note_text(note), ""};
        return true;
    }

    /// The newest checkpoint with its quorum, where a stamp is wanted and the last one is old.
    void stamp() {
        const auto now = std::chrono::steady_clock::now();
        const bool is_due =
            !stamped_at_ || now - *stamped_at_ >= std::chrono::seconds(options_.stamper.every);
        if (!stamper_ || !unstamped_ || !is_due) return;
        try {
            stamper_->stamp(folder_, unstamped_->size, unstamped_->checkpoint);
        } catch (const Error& error) {
            throw Error(error.code(), fmt::format("no time stamp: {}", error.message()));
        }
        stamped_at_ = now;
        unstamped_.reset();
    }

    /// What each witness has signed before, from the file of the last run.
    void read_cosigned(const tlog::FileSource& files) {
        if (std::exchange(was_read_, true)) return;
        const auto text = files(ledger::kCosigned);
        if (!text) return;
        const tlog::Note note = tlog::parse_note(*text);
        for (const auto& [name, key] : policy_.witnesses) {
            if (tlog::cosigned_at(note, key)) {
                seen_[name] = tlog::parse_checkpoint(note.text).size;
            }
        }
    }

    /// A witness that knows another size says so once; then it gets the proof from there.
    tlog::NoteSignature ask(const std::string& name, const std::string& url,
                            const tlog::FileSource& files, const tlog::Checkpoint& checkpoint,
                            const std::string& signed_text) {
        const auto [base, start] = split_url(url);
        const std::string path = start + "/add-checkpoint";
        ServerAddress address = parse_server_url(base);
        address.ca_file = options_.ca_file;
        address.time_max = kWitnessTime;
        const ApiClient client(address);
        std::uint64_t old_size = seen_[name];
        ApiResponse response;
        for (int attempt = 0; attempt < 2; ++attempt) {
            tlog::TileReader nodes(files, checkpoint.size);
            tlog::AddCheckpoint request{old_size, {}, signed_text};
            if (old_size > 0 && old_size < checkpoint.size) {
                request.proof = tlog::consistency_proof(nodes, old_size, checkpoint.size);
            }
            response = client.post(path, tlog::add_checkpoint_text(request), {}, "text/plain");
            std::uint64_t known = 0;
            const std::string_view line =
                std::string_view(response.body).substr(0, response.body.find('\n'));
            if (response.status != 409 || !tlog::parse_decimal(line, known)) break;
            if (known > checkpoint.size) {
                throw Error(ExitCode::invalid,
                            fmt::format("it has seen {} records, the log has {}: the log was "
                                        "rolled back",
                                        known, checkpoint.size));
            }
            old_size = known;
        }
        if (response.status != 200) {
            throw Error(ExitCode::unavailable,
                        fmt::format("it says {}: {}", response.status, response.body));
        }
        return signature_of(name, signed_text, response.body);
    }

    /// The one signature of the witness in what it sent.
    tlog::NoteSignature signature_of(const std::string& name, const std::string& signed_text,
                                     const std::string& lines) const {
        const tlog::VerifierKey& key = policy_.witnesses.at(name);
        const tlog::Note note = tlog::parse_note(signed_text + lines);
        // What it sent must leave the text as it is: it is that text which it signs.
        const bool same_text = note.text == tlog::parse_note(signed_text).text;
        if (same_text && tlog::cosigned_at(note, key)) {
            for (const tlog::NoteSignature& signature : note.signatures)
                if (signature.name == key.name && signature.id == key.id) return signature;
        }
        throw Error(ExitCode::invalid, "what it sent is not its signature of the checkpoint");
    }

    void keep(const std::string& text) const {
        const std::filesystem::path path = folder_ / "log" / ledger::kCosigned;
        const std::filesystem::path next = path.string() + ".next";
        std::filesystem::remove(next);
        write_new_file(next, text, 0600);
        std::filesystem::rename(next, path);
    }

    CourierOptions options_;
    std::filesystem::path folder_;
    tlog::Policy policy_;
    std::map<std::string, std::uint64_t> seen_;  // size that each witness signed last
    bool was_read_ = false;
    std::uint64_t done_ = UINT64_MAX;  // size of the last checkpoint with a quorum
    std::optional<Stamper> stamper_;
    std::optional<ledger::Stamp> unstamped_;  // waits for its stamp
    std::optional<std::chrono::steady_clock::time_point> stamped_at_;
};

void courier(const CourierOptions& options) {
    Courier courier(options);
    if (options.once) {
        if (courier.run_once()) return;
        throw Error(ExitCode::unavailable, "the checkpoint has no quorum of witnesses");
    }
    for (;;) {
        try {
            (void)courier.run_once();
        } catch (const Error& error) {
            std::fprintf(stderr, "etalon: %s\n", printable(error.message(), 500).c_str());
        }
        std::this_thread::sleep_for(std::chrono::seconds(options.every));
    }
}

}  // namespace

void add_courier(CLI::App& app) {
    CLI::App* command = app.add_subcommand(
        "courier",
        "carry this log's checkpoints to its witnesses, and to a time stamping authority");
    const auto options = std::make_shared<CourierOptions>();
    command->add_option("--ledger", options->ledger, "folder of the ledger; absent: the server's");
    command->add_option("--policy", options->policy,
                        "log, witnesses and their addresses; absent: policy.txt of the ledger");
    command->add_option("--ca-file", options->ca_file, "PEM file: who may sign their certificates");
    command->add_option("--every", options->every, "seconds between two looks")
        ->check(CLI::Range(std::uint64_t{1}, kEverySecondsMax))
        ->capture_default_str();
    add_stamper_options(*command, options->stamper);
    command->add_flag("--once", options->once, "carry the newest checkpoint and end");
    command->callback([options] {
        options->stamper.ca_file = options->ca_file;
        courier(*options);
    });
}

}  // namespace etalon::cli
