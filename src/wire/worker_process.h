// SPDX-License-Identifier: Apache-2.0
// The front's side of a worker: starts the process, sends and receives messages without waiting,
// and treats whatever comes back as hostile.
//
//   WorkerProcess worker = WorkerProcess::start({.model = "m.gguf"});
//   worker.send(Prepare{.id = 1, .tenant = "a", .prompt = TextPrompt{"Hello"}});
//   when fd() is readable:                      for (const ToFront& m : worker.receive()) ...
//   when wants_write() and fd() is writable:    worker.flush();
//
// Hello comes first; messages may be sent before it. One thread at a time uses the object. Nothing
// here waits for the worker but kill() and the destructor, which wait for its end after SIGKILL,
// and receive() for some milliseconds when it has found the worker's end of the socket closed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "wire/channel.h"
#include "wire/messages.h"
#include "wire/protocol_check.h"

namespace etalon::wire {

struct WorkerOptions {
    std::filesystem::path model;
    std::filesystem::path executable = "/proc/self/exe";  ///< the program `etalon`
    std::string backend = "cpu";                          ///< "cpu", "exact", "cuda:N", "auto"
    int threads = 0;                ///< 0: one a processor that the front may use
    int context = 0;                ///< most tokens of a request; 0: what the model allows
    std::uint64_t cache_bytes = 0;  ///< of keys and values; 0: the worker decides
    bool strict = false;            ///< a layer of the sandbox that is missing refuses to start
    bool hash = false;              ///< fill Hello::file_sha256: reads the whole file
    /// Not empty: the model must be signed with this key, else the worker refuses to read it.
    std::filesystem::path public_key;
    std::filesystem::path record;  ///< of verified files; empty: hashed at every start
};

class WorkerProcess {
  public:
    /// Starts `executable worker --fd N ...`: no descriptor of the front but the socket and stderr,
    /// and an environment of ETALON_ISA alone. Returns before the model is loaded. Errors: failure
    /// (a system call), not_found (no such executable).
    static WorkerProcess start(const WorkerOptions& options);

    WorkerProcess(WorkerProcess&& other) noexcept;
    WorkerProcess& operator=(WorkerProcess&& other) noexcept;
    ~WorkerProcess();  ///< kill()

    /// Readable when receive() has something to say, the worker's end included. Stays open and the
    /// same until the object is gone; nobody else reads, writes or closes it.
    int fd() const noexcept { return channel_.fd(); }

    /// Encodes and writes what the socket takes; the rest waits here. The order of messages.h is
    /// the caller's duty and asserted: ids ascend, Go once and only behind Prepared, nothing for an
    /// id behind its Cancel. A Cancel whose request has ended already is dropped here. Errors:
    /// usage (the message is too large or holds text that is not UTF-8; nothing was sent and the
    /// worker goes on), try_later (kQueuedBytesMax wait for the worker; nothing was sent). A worker
    /// that has died is noticed by receive() alone: sending to it does nothing.
    void send(const ToWorker& message);
    bool wants_write() const noexcept { return channel_.wants_write(); }
    void flush();

    /// What has arrived, in order, checked against what was sent; a part of it when very much has:
    /// fd() then stays readable. Empty: nothing now. Behind a Drain, once the worker has left as
    /// asked: empty, and has_left() is true.
    /// Errors, all of them after the messages that came before, and again at every further call:
    ///   unavailable  the worker is dead or closed its end; the message says how it ended
    ///   invalid      it broke the protocol; it has been killed
    std::vector<ToFront> receive();

    /// The worker finished its work after a Drain and exited with 0.
    bool has_left() const noexcept { return has_left_; }

    /// The worker's first message, once it has come.
    const std::optional<Hello>& hello() const noexcept { return check_.hello(); }

    pid_t pid() const noexcept { return pid_; }
    /// Asks the kernel, does not wait. nullopt: it runs. Else the exit code, or 128 + the signal.
    std::optional<int> exit_status();
    /// SIGKILL, and waits for the end. receive() then says unavailable.
    void kill() noexcept;

  private:
    WorkerProcess(pid_t pid, int fd);
    void take_messages(std::vector<ToFront>& messages);
    void end();
    std::string how_it_ended() const;

    pid_t pid_ = -1;
    std::optional<int> exit_status_;
    bool drain_sent_ = false;
    bool has_left_ = false;
    bool has_ended_ = false;
    std::optional<std::string> failed_;     // what the worker said before it left
    std::optional<std::string> violation_;  // how it broke the protocol
    Channel channel_;
    ProtocolCheck check_;
};

}  // namespace etalon::wire
