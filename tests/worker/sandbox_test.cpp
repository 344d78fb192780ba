// SPDX-License-Identifier: Apache-2.0
// The locks of a worker, tried from inside a child that closed them.
#include "worker/sandbox.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

#include "base/error.h"
#include "worker/probe.h"

namespace etalon::worker {
namespace {

const ProbeReport& report() {
    static const ProbeReport probed = probe_sandbox();
    return probed;
}

std::string status_of(const std::string& key) {
    for (const auto& [name, value] : report().status) {
        if (name == key) return value;
    }
    return "";
}

/// What is missing and why, for a machine that lacks a layer.
std::string why_missing(const std::string& name) {
    for (const Layer& layer : report().sandbox.layers()) {
        if (layer.name == name && !layer.on) return layer.detail;
    }
    return "";
}

TEST(Sandbox, no_canary_gets_through_a_closed_lock) {
    for (const Canary& canary : report().canaries) {
        if (!report().sandbox.is_on(canary.layer)) continue;
        EXPECT_TRUE(canary.as_expected()) << canary.name << ": " << canary.result;
    }
    EXPECT_EQ(report().escaped(), nullptr);
}

/// The child's reason is the caller's, with its exit code.
TEST(Sandbox, a_card_that_is_not_there_is_unavailable) {
    try {
        (void)probe_sandbox("cuda:4095");
        FAIL() << "a card 4095";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::unavailable) << error.message();
        EXPECT_NE(error.message().find("cuda:4095"), std::string::npos) << error.message();
    }
}

TEST(Sandbox, seccomp_is_on_by_the_kernels_own_word) {
    if (!report().sandbox.is_on("seccomp")) GTEST_SKIP() << why_missing("seccomp");
    EXPECT_EQ(status_of("Seccomp"), "2");
    EXPECT_EQ(status_of("NoNewPrivs"), "1");
}

TEST(Sandbox, capabilities_are_gone_by_the_kernels_own_word) {
    if (!report().sandbox.is_on("capabilities")) GTEST_SKIP() << why_missing("capabilities");
    EXPECT_EQ(status_of("CapEff"), "0000000000000000");
}

TEST(Sandbox, landlock_keeps_other_files_and_gives_the_model) {
    if (!report().sandbox.is_on("landlock")) GTEST_SKIP() << why_missing("landlock");
    const auto find = [&](const std::string& name) {
        return *std::find_if(report().canaries.begin(), report().canaries.end(),
                             [&](const Canary& canary) { return canary.name == name; });
    };
    EXPECT_TRUE(find("read /etc/passwd").refused);
    EXPECT_FALSE(find("read the model").refused);
}

TEST(Sandbox, the_network_namespace_is_its_own) {
    if (!report().sandbox.is_on("network namespace")) {
        GTEST_SKIP() << why_missing("network namespace");
    }
    SUCCEED();
}

TEST(Sandbox, every_layer_says_on_or_why_not) {
    EXPECT_EQ(report().sandbox.layers().size(), 7U);
    for (const Layer& layer : report().sandbox.layers())
        EXPECT_FALSE(layer.detail.empty()) << layer.name;
    const Sandbox mixed({{"a", true, "x"}, {"b", false, "kernel 5.10"}});
    EXPECT_EQ(mixed.text(), "a: on (x)\nb: missing (kernel 5.10)");
    EXPECT_FALSE(mixed.all_on());
}

TEST(ReadableFiles, are_the_file_or_what_lies_beside_it) {
    namespace fs = std::filesystem;
    const fs::path folder =
        fs::temp_directory_path() / ("etalon-readable-" + std::to_string(::getpid()));
    fs::create_directory(folder);
    for (const char* name : {"a.gguf", "b.safetensors", "config.json"})
        std::ofstream(folder / name) << "x";
    EXPECT_EQ(readable_files(folder / "a.gguf"), std::vector<fs::path>{folder / "a.gguf"});
    EXPECT_EQ(readable_files(folder / "b.safetensors").size(), 4U);  // itself, and three
    EXPECT_EQ(readable_files(folder).size(), 4U);
    EXPECT_THROW((void)readable_files(folder / "none.gguf"), Error);
    fs::remove_all(folder);
}

}  // namespace
}  // namespace etalon::worker
