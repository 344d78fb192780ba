// SPDX-License-Identifier: Apache-2.0
// A real worker, started as the front does it: the same digest as alone, cancel, drain, garbage, a
// kill, a model that cannot be read.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "engine/alone.h"
#include "engine/tiny_model.h"
#include "weights/signature.h"
#include "wire/codec.h"
#include "wire/worker_process.h"

namespace etalon::worker {
namespace {

constexpr int kPatienceMs = 60000;  // a loaded machine, never reached otherwise

/// The tiny model on disk for as long as the tests run.
class ModelOnDisk : public testing::Environment {
  public:
    void SetUp() override { engine::write_tiny(path(), engine::tiny_tokenizer_data()); }
    void TearDown() override { std::filesystem::remove(path()); }
    /// Named once: a child that is forked has another process id.
    static const std::filesystem::path& path() {
        static const std::filesystem::path named =
            std::filesystem::temp_directory_path() /
            ("etalon-process-" + std::to_string(::getpid()) + ".safetensors");
        return named;
    }
};
const auto* const kModelOnDisk = testing::AddGlobalTestEnvironment(new ModelOnDisk);

wire::WorkerOptions options() {
    wire::WorkerOptions options;
    options.executable = ETALON_PROGRAM;
    options.model = ModelOnDisk::path();
    options.threads = 2;
    options.cache_bytes = std::uint64_t{1} << 20;
    return options;
}

/// The front's loop, one message at a time.
class Front {
  public:
    explicit Front(const wire::WorkerOptions& its_options)
        : worker(wire::WorkerProcess::start(its_options)) {}

    wire::ToFront next() {
        while (waiting_.empty()) {
            pollfd socket{worker.fd(), POLLIN, 0};
            if (worker.wants_write()) socket.events |= POLLOUT;
            if (::poll(&socket, 1, kPatienceMs) <= 0) throw std::runtime_error("nothing came");
            worker.flush();
            for (wire::ToFront& message : worker.receive())
                waiting_.push_back(std::move(message));
            if (worker.has_left()) throw std::runtime_error("the worker has left");
        }
        wire::ToFront message = std::move(waiting_.front());
        waiting_.erase(waiting_.begin());
        return message;
    }
    template <typename Message>
    Message expect() {
        const wire::ToFront message = next();
        if (const auto* failed = std::get_if<wire::Failed>(&message)) {
            throw std::runtime_error("the worker failed: " + failed->message);
        }
        return std::get<Message>(message);
    }
    /// The code of the Error that ends this worker.
    ExitCode end() {
        try {
            for (;;)
                (void)next();
        } catch (const Error& error) {
            last_words = error.message();
            return error.code();
        }
    }

    wire::WorkerProcess worker;
    std::string last_words;

  private:
    std::vector<wire::ToFront> waiting_;
};

wire::Prepare prepare(wire::RequestId id, int max_tokens) {
    wire::Prepare prepare;
    prepare.id = id;
    prepare.tenant = "t";
    prepare.prompt = wire::TextPrompt{"hello world"};
    prepare.sampling.seed = 7;
    prepare.sampling.max_tokens = max_tokens;
    prepare.sampling.ignore_eos = true;
    return prepare;
}

TEST(Process, answers_with_the_digest_of_the_request_alone) {
    Front front(options());
    const auto hello = front.expect<wire::Hello>();
    EXPECT_EQ(hello.vocab_size, engine::kTinyVocab);
    EXPECT_NE(hello.sandbox.find("seccomp: "), std::string::npos) << hello.sandbox;
    front.worker.send(prepare(1, 20));
    const auto prepared = front.expect<wire::Prepared>();
    front.worker.send(wire::Go{1});
    engine::Request request;
    request.prompt = prepared.prompt;
    request.sampling.temperature = 1.0F;
    request.max_tokens = 20;
    request.ignore_eos = true;
    const engine::AloneChoice alone = engine::run_alone(request, 7, 0);
    for (const std::int32_t token : alone.tokens)
        EXPECT_EQ(front.expect<wire::Token>().token, token);
    EXPECT_EQ(front.expect<wire::ChoiceEnd>().digest, to_hex(alone.digest(alone.tokens.size())));
    EXPECT_EQ(front.expect<wire::RequestEnd>().answer_tokens, 20);
}

TEST(Process, cancels_and_drains) {
    Front front(options());
    (void)front.expect<wire::Hello>();
    front.worker.send(prepare(1, 400));
    (void)front.expect<wire::Prepared>();
    front.worker.send(wire::Go{1});
    (void)front.expect<wire::Token>();
    front.worker.send(prepare(2, 30));
    front.worker.send(wire::Cancel{1});
    bool ended = false;
    bool prepared = false;
    while (!ended || !prepared) {
        const wire::ToFront message = front.next();
        if (const auto* end = std::get_if<wire::RequestEnd>(&message)) ended = end->id == 1;
        prepared = prepared || std::holds_alternative<wire::Prepared>(message);
    }
    front.worker.send(wire::Go{2});
    front.worker.send(wire::Drain{});
    int n_tokens = 0;
    try {
        for (;;)
            n_tokens += std::holds_alternative<wire::Token>(front.next()) ? 1 : 0;
    } catch (const std::runtime_error&) {
    }
    EXPECT_EQ(n_tokens, 30);
    EXPECT_TRUE(front.worker.has_left());
    EXPECT_EQ(front.worker.exit_status(), 0);
}

TEST(Process, ignores_the_signals_of_its_group) {
    Front front(options());
    (void)front.expect<wire::Hello>();
    for (const int signal : {SIGINT, SIGTERM, SIGHUP})
        ::kill(front.worker.pid(), signal);
    front.worker.send(wire::AskCounters{1});
    EXPECT_EQ(front.expect<wire::Counters>().id, 1U);
}

TEST(Process, a_kill_is_noticed) {
    Front front(options());
    (void)front.expect<wire::Hello>();
    front.worker.send(prepare(1, 400));
    (void)front.expect<wire::Prepared>();
    front.worker.send(wire::Go{1});
    ::kill(front.worker.pid(), SIGKILL);
    EXPECT_EQ(front.end(), ExitCode::unavailable);
    EXPECT_EQ(front.last_words, "the worker was killed by signal 9 (KILL)");
    EXPECT_EQ(front.worker.exit_status(), 128 + SIGKILL);
    front.worker.send(wire::Cancel{1});  // nobody hears it, nothing breaks
    EXPECT_THROW((void)front.worker.receive(), Error);
}

TEST(Process, a_model_that_is_not_there_is_said) {
    wire::WorkerOptions missing = options();
    missing.model = "/nowhere/m.gguf";
    Front front(missing);
    const wire::ToFront message = front.next();
    ASSERT_TRUE(std::holds_alternative<wire::Failed>(message));
    EXPECT_EQ(std::get<wire::Failed>(message).exit_code, 3);
    EXPECT_EQ(front.end(), ExitCode::unavailable);
    EXPECT_EQ(front.worker.exit_status(), 3);
}

/// The tiny model in a folder of its own, signed, with the key beside it.
class SignedModel {
  public:
    SignedModel() {
        std::string name = std::filesystem::temp_directory_path() / "etalon-signed-XXXXXX";
        folder_ = ::mkdtemp(name.data());
        model = folder_ / "m.safetensors";
        std::filesystem::copy_file(ModelOnDisk::path(), model);
        const auto key = weights::PrivateKey::generate();
        key.write(folder_ / "k");
        weights::sign_model(model, weights::signature_path(model), key, {});
    }
    ~SignedModel() { std::filesystem::remove_all(folder_); }
    SignedModel(const SignedModel&) = delete;
    SignedModel& operator=(const SignedModel&) = delete;

    wire::WorkerOptions options() const {
        wire::WorkerOptions out = worker::options();
        out.model = model;
        out.public_key = folder_ / "k.pub";
        out.record = folder_ / "verified";
        return out;
    }
    /// What a worker says that does not start.
    static wire::Failed failure(const wire::WorkerOptions& options) {
        Front front(options);
        return std::get<wire::Failed>(front.next());
    }

    std::filesystem::path model;

  private:
    std::filesystem::path folder_;
};

TEST(Process, a_signed_model_is_read_in_the_closed_sandbox) {
    const SignedModel signed_model;
    // Long enough for the record to be believed at the second start.
    ::sleep(4);
    for (int start = 0; start < 2; ++start) {
        wire::WorkerOptions options = signed_model.options();
        options.hash = true;
        Front front(options);
        const auto hello = front.expect<wire::Hello>();
        EXPECT_EQ(hello.vocab_size, engine::kTinyVocab);
        EXPECT_EQ(hello.file_sha256, to_hex(sha256(MappedFile(signed_model.model).bytes())));
    }
    std::ifstream record(signed_model.options().record);
    const std::string text(std::istreambuf_iterator<char>(record), {});
    // The worker wrote two lines from inside, once: the second start knew the file.
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4) << text;
}

TEST(Process, a_model_that_is_not_what_was_signed_is_not_read) {
    const SignedModel signed_model;
    constexpr int kRefused = static_cast<int>(ExitCode::refused);
    wire::WorkerOptions unsigned_options = signed_model.options();
    unsigned_options.model = ModelOnDisk::path();
    const wire::Failed no_signature = SignedModel::failure(unsigned_options);
    EXPECT_EQ(no_signature.exit_code, kRefused);
    EXPECT_NE(no_signature.message.find("is not signed"), std::string::npos);
    // The first bytes: were the file parsed first, the parser would have complained.
    std::fstream(signed_model.model, std::ios::in | std::ios::out | std::ios::binary) << "XXXX";
    const wire::Failed changed = SignedModel::failure(signed_model.options());
    EXPECT_EQ(changed.exit_code, kRefused);
    EXPECT_NE(changed.message.find("not those that were signed"), std::string::npos)
        << changed.message;
}

TEST(Process, an_executable_that_is_not_there_is_said) {
    wire::WorkerOptions missing = options();
    missing.executable = "/nowhere/etalon";
    EXPECT_THROW((void)wire::WorkerProcess::start(missing), Error);
}

/// A worker on a bare socket, for a front that does not keep to the messages.
struct BareWorker {
    BareWorker() {
        std::array<int, 2> ends{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        pid = ::fork();
        if (pid == 0) {
            ::dup2(ends[1], 9);
            const std::string model = ModelOnDisk::path();
            ::execl(ETALON_PROGRAM, "etalon", "worker", "--fd", "9", "--threads", "1",
                    "--cache-bytes", "1048576", model.c_str(), nullptr);
            ::_exit(127);
        }
        ::close(ends[1]);
        channel = std::make_unique<wire::Channel>(ends[0]);
    }
    ~BareWorker() {
        if (pid > 0) ::kill(pid, SIGKILL);
        (void)status();
    }
    wire::ToFront next() {
        for (;;) {
            if (const auto frame = channel->next()) return wire::decode_to_front(*frame);
            pollfd socket{channel->fd(), POLLIN, 0};
            if (::poll(&socket, 1, kPatienceMs) <= 0) throw std::runtime_error("nothing came");
            channel->read();
            if (channel->at_end()) throw std::runtime_error("the worker has left");
        }
    }
    int status() {
        int raw = 0;
        if (pid > 0 && ::waitpid(pid, &raw, 0) == pid) pid = -1;
        return WIFEXITED(raw) ? WEXITSTATUS(raw) : -1;
    }

    pid_t pid = -1;
    std::unique_ptr<wire::Channel> channel;
};

TEST(Process, garbage_ends_the_worker_with_an_error) {
    BareWorker bare;
    EXPECT_TRUE(std::holds_alternative<wire::Hello>(bare.next()));
    bare.channel->push("this is no frame of ours");
    EXPECT_TRUE(std::holds_alternative<wire::Failed>(bare.next()));
    EXPECT_EQ(bare.status(), static_cast<int>(ExitCode::invalid));
}

TEST(Process, a_front_that_leaves_ends_the_worker) {
    BareWorker bare;
    EXPECT_TRUE(std::holds_alternative<wire::Hello>(bare.next()));
    bare.channel.reset();
    EXPECT_EQ(bare.status(), 0);
}

/// Thousands of questions whose answers nobody reads: the worker holds a bounded part, and gives
/// all answers in order once they are read.
TEST(Process, a_front_that_does_not_read_stops_the_worker_and_not_more) {
    constexpr wire::RequestId kQuestions = 40000;
    BareWorker bare;
    EXPECT_TRUE(std::holds_alternative<wire::Hello>(bare.next()));
    for (wire::RequestId id = 1; id <= kQuestions; ++id)
        bare.channel->push(wire::encode(wire::ToWorker(wire::AskCounters{id})));
    ::usleep(200'000);
    for (wire::RequestId id = 1; id <= kQuestions; ++id) {
        bare.channel->flush();
        const wire::ToFront answer = bare.next();
        ASSERT_EQ(std::get<wire::Counters>(answer).id, id);
    }
}

TEST(Process, strict_starts_where_every_layer_is_on) {
    wire::WorkerOptions strict = options();
    strict.strict = true;
    Front front(strict);
    const wire::ToFront first = front.next();
    if (const auto* failed = std::get_if<wire::Failed>(&first)) {
        EXPECT_EQ(failed->exit_code, static_cast<int>(ExitCode::refused));
        GTEST_SKIP() << failed->message;
    }
    const std::string& layers = std::get<wire::Hello>(first).sandbox;
    EXPECT_EQ(layers.find("missing"), std::string::npos) << layers;
}

}  // namespace
}  // namespace etalon::worker
