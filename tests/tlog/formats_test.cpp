// SPDX-License-Identifier: Apache-2.0
// Checkpoints, proof files, policies, requests to witnesses, paths of tiles.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tlog/checkpoint.h"
#include "tlog/crash_disk.h"
#include "tlog/policy.h"
#include "tlog/proof_file.h"
#include "tlog/tile.h"
#include "tlog/witness.h"
#include "tlog/witness_store.h"

namespace etalon::tlog {
namespace {

const std::string kRoot = "4OFBNzKjxoRrBEHRFJMHqZQbgSk9xDpjwLgEdXN7fnA=";

TEST(TilePath, examples_of_the_specification) {
    EXPECT_EQ(tile_path(0, 1234067, 256), "tile/0/x001/x234/067");
    EXPECT_EQ(tile_path(1, 0, 3), "tile/1/000.p/3");
    EXPECT_EQ(entries_path(1000, 17), "tile/entries/x001/000.p/17");
    EXPECT_EQ(entries_path(999, 256), "tile/entries/999");
}

TEST(TilePath, widths) {
    EXPECT_EQ(tile_width(0, 0, 0), 0U);
    EXPECT_EQ(tile_width(0, 0, 1), 1U);
    EXPECT_EQ(tile_width(0, 0, 256), 256U);
    EXPECT_EQ(tile_width(0, 1, 256), 0U);
    EXPECT_EQ(tile_width(0, 1, 257), 1U);
    EXPECT_EQ(tile_width(1, 0, 255), 0U);
    EXPECT_EQ(tile_width(1, 0, 70000), 256U);
    EXPECT_EQ(tile_width(1, 1, 70000), 17U);
    EXPECT_EQ(tile_width(2, 0, 70000), 1U);
}

TEST(Bundle, entries_come_back) {
    std::string bundle;
    const std::vector<std::string> entries = {"", "a", std::string(kEntryBytesMax, 'x')};
    for (const std::string& entry : entries)
        append_entry(entry, bundle);
    const auto parsed = parse_entries(bundle, 3);
    EXPECT_TRUE(std::equal(parsed.begin(), parsed.end(), entries.begin(), entries.end()));
    EXPECT_THROW(parse_entries(bundle, 4), Error);
    EXPECT_THROW(parse_entries(bundle.substr(0, bundle.size() - 1), 3), Error);
}

TEST(Checkpoint, text_and_back) {
    const std::string text = "etalon.example/x\n42\n" + kRoot + "\n";
    const Checkpoint checkpoint = parse_checkpoint(text);
    EXPECT_EQ(checkpoint.origin, "etalon.example/x");
    EXPECT_EQ(checkpoint.size, 42U);
    EXPECT_EQ(checkpoint.text(), text);
}

TEST(Checkpoint, what_is_none) {
    for (const std::string& text :
         {std::string(), std::string("a\n1\n"), "a\n1\n" + kRoot, "\n1\n" + kRoot + "\n",
          "a\n01\n" + kRoot + "\n", "a\n-1\n" + kRoot + "\n", "a\n+1\n" + kRoot + "\n",
          "a\n1 \n" + kRoot + "\n", "a\n\n" + kRoot + "\n",
          "a\n9223372036854775808\n" + kRoot + "\n", "a\n99999999999999999999\n" + kRoot + "\n",
          "a\n1\n" + kRoot.substr(4) + "\n", "a\n1\n" + kRoot + "\nextension\n",
          "a\n0\n" + kRoot + "\n",
          std::string(kOriginBytesMax + 1, 'a') + "\n1\n" + kRoot + "\n"}) {
        EXPECT_THROW(parse_checkpoint(text), Error) << text;
    }
}

TEST(Checkpoint, is_opened_with_the_key_of_its_origin) {
    const SigningKey key = SigningKey::generate("etalon.example/x");
    const std::string text = "etalon.example/x\n42\n" + kRoot + "\n";
    const Note note{text, {key.sign(text)}};
    EXPECT_EQ(open_checkpoint(note, key.verifier()).size, 42U);
    EXPECT_THROW(open_checkpoint(note, SigningKey::generate("etalon.example/x").verifier()), Error);
    const std::string foreign = "etalon.example/y\n42\n" + kRoot + "\n";
    EXPECT_THROW(open_checkpoint({foreign, {key.sign(foreign)}}, key.verifier()), Error);
}

/// A log and three witnesses with a checkpoint that chosen ones signed.
class PolicyTest : public testing::Test {
  protected:
    Note note_of(std::initializer_list<const SigningKey*> cosigners) const {
        Note note{text_, {log_.sign(text_)}};
        for (const SigningKey* key : cosigners)
            note.signatures.push_back(key->cosign(text_, 1700000000));
        return note;
    }
    std::string names() const {
        return fmt::format(
            "# who\nlog {}\nwitness a {}\nwitness b {}  https://b.example/\n"
            "witness c {}\n",
            log_.verifier().text(), a_.verifier().text(), b_.verifier().text(),
            c_.verifier().text());
    }
    bool opens(const Note& note, const std::string& rest) const {
        const Policy policy = parse_policy(names() + rest);
        try {
            return open_checkpoint(note, policy).size == 42;
        } catch (const Error&) {
            return false;
        }
    }

    SigningKey log_ = SigningKey::generate("log.example");
    SigningKey a_ = SigningKey::generate("w.example/a", KeyKind::cosignature);
    SigningKey b_ = SigningKey::generate("w.example/b", KeyKind::cosignature);
    SigningKey c_ = SigningKey::generate("w.example/c", KeyKind::cosignature);
    std::string text_ = "log.example\n42\n" + kRoot + "\n";
};

TEST_F(PolicyTest, quorums) {
    EXPECT_TRUE(opens(note_of({}), "quorum none\n"));
    EXPECT_TRUE(opens(note_of({&a_}), "quorum a\n"));
    EXPECT_FALSE(opens(note_of({&b_}), "quorum a\n"));
    const std::string two = "group g 2 a b c\nquorum g\n";
    EXPECT_FALSE(opens(note_of({&c_}), two));
    EXPECT_TRUE(opens(note_of({&c_, &a_}), two));
    EXPECT_FALSE(opens(note_of({&c_, &c_}), two));
    EXPECT_FALSE(opens(note_of({&a_, &b_}), "group g all a b c\nquorum g"));
    EXPECT_TRUE(opens(note_of({&b_}), "group g any a b c\nquorum g"));
    // The outer group's name sorts first.
    const std::string nested = "group z any a b\ngroup f all z c\nquorum f\n";
    EXPECT_FALSE(opens(note_of({&a_, &b_}), nested));
    EXPECT_TRUE(opens(note_of({&b_, &c_}), nested));
}

TEST_F(PolicyTest, the_log_must_have_signed) {
    Note note = note_of({&a_});
    note.signatures.erase(note.signatures.begin());
    EXPECT_FALSE(opens(note, "quorum a\n"));
    EXPECT_FALSE(opens(note, "quorum none\n"));
}

TEST_F(PolicyTest, the_log_is_the_one_that_the_origin_names) {
    const SigningKey other = SigningKey::generate("other.example");
    Note note = note_of({&a_});
    note.signatures.insert(note.signatures.begin(), other.sign(text_));
    const std::string both = fmt::format("log {}\n{}quorum a\n", other.verifier().text(), names());
    EXPECT_EQ(open_checkpoint(note, parse_policy(both)).size, 42U);
    note.signatures.erase(note.signatures.begin() + 1);
    EXPECT_THROW(open_checkpoint(note, parse_policy(both)), Error);
}

TEST_F(PolicyTest, a_wrong_signature_of_a_known_key_refuses_the_note) {
    for (std::size_t i = 0; i < 3; ++i) {
        Note note = note_of({&a_, &b_});
        note.signatures[i].bytes.back() ^= 1;
        EXPECT_FALSE(opens(note, "quorum none\n")) << i;
        note.signatures[i].id ^= 1;  // now it is of a key that nobody knows
        EXPECT_EQ(opens(note, "quorum none\n"), i != 0) << i;
    }
}

TEST_F(PolicyTest, what_is_no_policy) {
    for (const std::string& rest :
         {std::string(), std::string("quorum d\n"), std::string("quorum a\nquorum b\n"),
          std::string("group a 1 b\nquorum a\n"), std::string("group g 3 a b\nquorum g\n"),
          std::string("group g 0 a b\nquorum g\n"), std::string("group g 2 a a\nquorum g\n"),
          std::string("group g 1 h\ngroup h 1 a\nquorum g\n"), std::string("speed 3\nquorum a\n"),
          std::string("group none 1 a\nquorum none\n"),
          fmt::format("witness d {}\nquorum a\n", a_.verifier().text()),
          fmt::format("log {}\nquorum a\n", a_.verifier().text()),
          fmt::format("log {}\nquorum a\n", log_.verifier().text()),
          fmt::format("witness d {}\nquorum a\n", log_.verifier().text())}) {
        EXPECT_THROW(parse_policy(names() + rest), Error) << rest;
    }
    EXPECT_THROW(parse_policy("quorum none\n"), Error);
}

TEST_F(PolicyTest, a_proof_file_shows_one_entry) {
    std::vector<Hash> leaves;
    Frontier frontier;
    for (const char* entry : {"one", "two", "three"}) {
        leaves.push_back(leaf_hash(entry));
        frontier.append(leaves.back());
    }
    const std::string text = Checkpoint{"log.example", 3, frontier.root()}.text();
    ProofFile proof;
    proof.index = 1;
    proof.hashes = {leaves[0], leaves[2]};
    proof.checkpoint = note_text({text, {log_.sign(text)}});
    const Policy policy = parse_policy(names() + "quorum none\n");
    for (const char* extra : {"", "for the holder"}) {
        proof.extra = extra;
        const ProofFile parsed = parse_proof_file(proof_file_text(proof));
        EXPECT_EQ(parsed.extra, extra);
        EXPECT_EQ(parsed.checkpoint, proof.checkpoint);
        EXPECT_EQ(verify_proof_file(parsed, "two", policy).size, 3U);
        EXPECT_THROW(verify_proof_file(parsed, "Two", policy), Error);
    }
    const std::string bytes = proof_file_text(proof);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        std::string changed = bytes;
        changed[i] ^= 4;
        const bool is_extra = i >= bytes.find("extra ") + 6 && i < bytes.find("\nindex");
        if (is_extra) continue;  // what the log added for the holder is not signed
        EXPECT_THROW(verify_proof_file(parse_proof_file(changed), "two", policy), Error) << i;
    }
}

class WitnessTest : public testing::Test {
  protected:
    WitnessTest() {
        for (int i = 0; i < 5; ++i)
            grow();
    }
    void grow() {
        leaves_.push_back(leaf_hash(std::to_string(leaves_.size())));
        frontier_.append(leaves_.back());
        roots_.push_back(frontier_.root());
    }
    std::string signed_checkpoint(std::uint64_t size, const Hash& root) const {
        const std::string text = Checkpoint{"log.example", size, root}.text();
        return note_text({text, {log_.sign(text)}});
    }
    WitnessAnswer ask(std::uint64_t old_size, std::vector<Hash> proof,
                      const std::string& checkpoint, const Checkpoint& last) const {
        return add_checkpoint(add_checkpoint_text({old_size, std::move(proof), checkpoint}),
                              log_.verifier(), last, witness_, 1700000000);
    }

    SigningKey log_ = SigningKey::generate("log.example");
    SigningKey witness_ = SigningKey::generate("w.example", KeyKind::cosignature);
    std::vector<Hash> leaves_;
    std::vector<Hash> roots_;
    Frontier frontier_;
};

TEST_F(WitnessTest, signs_what_continues) {
    const Checkpoint none{"log.example", 0, empty_root()};
    const std::string first = signed_checkpoint(3, roots_[2]);
    WitnessAnswer answer = ask(0, {}, first, none);
    ASSERT_EQ(answer.status, 200);
    EXPECT_EQ(answer.remembered->size, 3U);
    const Note note = parse_note(first + answer.body);
    EXPECT_EQ(cosigned_at(note, witness_.verifier()), 1700000000);
    const Hash right = node_hash(leaves_[2], leaves_[3]);
    const std::vector<Hash> proof = {leaves_[2], leaves_[3], node_hash(leaves_[0], leaves_[1]),
                                     leaves_[4]};
    answer = ask(3, proof, signed_checkpoint(5, roots_[4]), *answer.remembered);
    EXPECT_EQ(answer.status, 200) << answer.body;
    EXPECT_EQ(answer.remembered->root, roots_[4]);
    EXPECT_NE(right, leaves_[2]);
}

TEST_F(WitnessTest, remembers_what_it_signed_before_it_says_so) {
    const std::string first = add_checkpoint_text({0, {}, signed_checkpoint(3, roots_[2])});
    const std::string fork = add_checkpoint_text({0, {}, signed_checkpoint(3, roots_[3])});
    const std::string key = witness_.text();
    CrashDisk whole;
    {
        WitnessStore store(whole, SigningKey::parse(key), {log_.verifier()});
        ASSERT_EQ(store.take(first, 1700000000).status, 200);
        EXPECT_EQ(store.take(fork, 1700000000).status, 409);
        EXPECT_EQ(store.take("", 1700000000).status, 400);
    }
    const int n_changes = whole.n_changes();
    EXPECT_EQ(
        WitnessStore(whole, SigningKey::parse(key), {log_.verifier()}).last("log.example").size,
        3U);
    EXPECT_EQ(WitnessStore(whole, SigningKey::parse(key), {}).take(first, 1).status, 404);
    EXPECT_THROW(WitnessStore(whole, SigningKey::parse(key), {log_.verifier(), log_.verifier()}),
                 Error);
    for (int at = 1; at <= n_changes; ++at) {
        for (std::uint64_t seed = 0; seed < 8; ++seed) {
            CrashDisk disk;
            disk.lose_power_at(at);
            bool was_told = false;
            try {
                WitnessStore store(disk, SigningKey::parse(key), {log_.verifier()});
                was_told = store.take(first, 1700000000).status == 200;
            } catch (const PowerLost&) {
            }
            disk.restart(seed);
            WitnessStore again(disk, SigningKey::parse(key), {log_.verifier()});
            const std::uint64_t size = again.last("log.example").size;
            EXPECT_TRUE(size == 3 || (size == 0 && !was_told)) << at << " " << seed;
            EXPECT_EQ(again.take(fork, 1700000000).status, size == 0 ? 200 : 409);
        }
    }
}

TEST_F(WitnessTest, refuses_what_does_not) {
    const Checkpoint last{"log.example", 3, roots_[2]};
    const std::string next = signed_checkpoint(5, roots_[4]);
    EXPECT_EQ(ask(3, {}, next, last).status, 422);
    EXPECT_EQ(ask(3, {leaves_[0]}, next, last).status, 422);
    EXPECT_EQ(ask(3, {}, signed_checkpoint(3, roots_[3]), last).status, 422);  // a fork
    EXPECT_EQ(ask(3, {}, signed_checkpoint(3, roots_[2]), last).status, 200);
    const WitnessAnswer known = ask(2, {}, next, last);
    EXPECT_EQ(known.status, 409);
    EXPECT_EQ(known.body, "3\n");
    EXPECT_EQ(ask(6, {}, next, last).status, 400);
    EXPECT_EQ(ask(3, {}, "nothing", last).status, 400);
    std::string changed = next;
    char& letter = changed[changed.size() - 5];  // of the signature's base64
    letter = letter == 'A' ? 'B' : 'A';
    EXPECT_EQ(ask(3, {}, changed, last).status, 403);
    for (const char* body : {"", "old", "old x\n\n", "old 1\n", "old 1\nxx\n\n"}) {
        EXPECT_EQ(add_checkpoint(body, log_.verifier(), last, witness_, 1).status, 400) << body;
    }
}

}  // namespace
}  // namespace etalon::tlog
