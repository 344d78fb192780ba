// SPDX-License-Identifier: Apache-2.0
// Policies, line by line; names are defined before they are used, so there are no circles.
#include "tlog/policy.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::tlog {

namespace {

constexpr std::string_view kNone = "none";

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    while (true) {
        const std::size_t begin = line.find_first_not_of(" \t\r");
        if (begin == line.npos) return words;
        line.remove_prefix(begin);
        const std::size_t length = std::min(line.find_first_of(" \t\r"), line.size());
        words.push_back(line.substr(0, length));
        line.remove_prefix(length);
    }
}

class Parser {
  public:
    Policy parse(std::string_view text) {
        if (text.size() > kPolicyBytesMax) fail("the policy is too long");
        while (!text.empty()) {
            ++line_;
            const std::size_t length = std::min(text.find('\n'), text.size());
            take_line(words_of(text.substr(0, length)));
            text.remove_prefix(std::min(length + 1, text.size()));
        }
        if (policy_.logs.empty()) fail("no log is named");
        if (policy_.quorum.empty()) fail("there is no quorum line; \"quorum none\" asks for none");
        return std::move(policy_);
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error(ExitCode::invalid, fmt::format("policy, line {}: {}", line_, what));
    }

    void take_line(const std::vector<std::string_view>& words) {
        if (words.empty() || words[0].front() == '#') return;
        if (words[0] == "log" && words.size() >= 2) {
            take_log(words[1]);
        } else if (words[0] == "witness" && words.size() >= 3) {
            take_witness(words[1], words[2]);
            if (words.size() > 3) policy_.urls.emplace(words[1], words[3]);
        } else if (words[0] == "group" && words.size() >= 4) {
            take_group(words);
        } else if (words[0] == "quorum" && words.size() == 2) {
            take_quorum(words[1]);
        } else {
            fail("not a line of log, witness, group or quorum");
        }
    }

    void take_log(std::string_view key) {
        policy_.logs.push_back(key_of(key));
        if (policy_.logs.back().kind != KeyKind::ed25519) fail("not the key of a log");
        if (std::count(policy_.logs.begin(), policy_.logs.end(), policy_.logs.back()) > 1) {
            fail("the log is there already");
        }
        if (policy_.logs.size() > kPolicyNamesMax) fail("too many logs");
    }

    void take_witness(std::string_view name, std::string_view key) {
        check_new(name);
        const VerifierKey verifier = key_of(key);
        if (verifier.kind != KeyKind::cosignature) fail("not the key of a witness");
        // One key under two names would count twice.
        for (const auto& [other, known] : policy_.witnesses) {
            if (known.key == verifier.key) fail("the key is that of another witness");
        }
        policy_.witnesses.emplace(name, verifier);
    }

    void take_group(const std::vector<std::string_view>& words) {
        check_new(words[1]);
        Policy::Group group;
        group.members.assign(words.begin() + 3, words.end());
        for (const std::string& member : group.members) {
            if (!is_known(member)) fail(fmt::format("{} is not defined", printable(member)));
            if (std::count(group.members.begin(), group.members.end(), member) > 1) {
                fail(fmt::format("{} stands twice", printable(member)));
            }
        }
        group.threshold = threshold_of(words[2], group.members.size());
        policy_.groups.emplace(words[1], std::move(group));
    }

    std::size_t threshold_of(std::string_view word, std::size_t n_members) const {
        if (word == "any") return 1;
        if (word == "all") return n_members;
        std::uint64_t threshold = 0;
        if (!parse_decimal(word, threshold) || threshold < 1 || threshold > n_members) {
            fail("the group needs a number of its members, any or all");
        }
        return threshold;
    }

    void take_quorum(std::string_view name) {
        if (!policy_.quorum.empty()) fail("there is a quorum already");
        if (name != kNone && !is_known(std::string(name))) fail("the quorum is not defined");
        policy_.quorum = name;
    }

    VerifierKey key_of(std::string_view text) const {
        try {
            return parse_verifier_key(text);
        } catch (const Error& error) {
            fail(error.message());
        }
    }

    bool is_known(const std::string& name) const {
        return policy_.witnesses.count(name) + policy_.groups.count(name) > 0;
    }

    void check_new(std::string_view name) const {
        if (name == kNone || is_known(std::string(name))) fail("the name is taken");
        if (policy_.witnesses.size() + policy_.groups.size() >= kPolicyNamesMax) {
            fail("too many names");
        }
    }

    Policy policy_;
    int line_ = 0;
};

}  // namespace

Policy parse_policy(std::string_view text) {
    return Parser().parse(text);
}

bool is_signed_by_log(const Note& note, const Policy& policy, std::string_view name) {
    bool found = false;
    const auto check = [&](const VerifierKey& key, bool is_right) {
        if (is_right || !names_signer(note, key)) return is_right;
        throw Error(ExitCode::invalid, fmt::format("the signature of {} is wrong", key.name));
    };
    for (const VerifierKey& key : policy.logs)
        found = (check(key, is_signed_by(note, key)) && key.name == name) || found;
    for (const auto& [witness, key] : policy.witnesses)
        (void)check(key, cosigned_at(note, key).has_value());
    return found;
}

Checkpoint open_checkpoint(const Note& note, const Policy& policy) {
    Checkpoint checkpoint = parse_checkpoint(note.text);
    if (!is_signed_by_log(note, policy, checkpoint.origin)) {
        throw Error(ExitCode::invalid,
                    fmt::format("no log of the policy signed the checkpoint of {}",
                                printable(checkpoint.origin)));
    }
    if (policy.quorum == kNone) return checkpoint;
    // A group's members are defined before it, but its name may sort before theirs: rounds over all
    // groups until none is added, one round a level of nesting at most.
    std::map<std::string, bool> seen;
    for (const auto& [name, key] : policy.witnesses)
        seen[name] = cosigned_at(note, key).has_value();
    for (bool again = true; again;) {
        again = false;
        for (const auto& [name, group] : policy.groups) {
            if (seen[name]) continue;
            const auto n = std::count_if(group.members.begin(), group.members.end(),
                                         [&](const std::string& member) { return seen[member]; });
            seen[name] = static_cast<std::size_t>(n) >= group.threshold;
            again = again || seen[name];
        }
    }
    if (!seen[policy.quorum]) {
        throw Error(ExitCode::invalid,
                    fmt::format("the witnesses of {} have not seen the checkpoint",
                                printable(policy.quorum)));
    }
    return checkpoint;
}

}  // namespace etalon::tlog
