// SPDX-License-Identifier: Apache-2.0
// One worker as the server needs it: wire::WorkerProcess, or a scripted one in tests.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "wire/messages.h"
#include "wire/worker_process.h"

namespace etalon::serve {

/// What the functions do and throw is said at wire::WorkerProcess.
class Worker {
  public:
    virtual ~Worker() = default;
    virtual int fd() const = 0;
    virtual void send(const wire::ToWorker& message) = 0;
    virtual bool wants_write() const = 0;
    virtual void flush() = 0;
    virtual std::vector<wire::ToFront> receive() = 0;
    virtual bool has_left() const = 0;
};

using StartWorker = std::function<std::unique_ptr<Worker>(const wire::WorkerOptions& options)>;

/// A process of this program. Errors: those of wire::WorkerProcess::start.
std::unique_ptr<Worker> start_worker_process(const wire::WorkerOptions& options);

}  // namespace etalon::serve
