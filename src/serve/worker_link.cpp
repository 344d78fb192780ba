// SPDX-License-Identifier: Apache-2.0
// The real worker behind the interface.
#include "serve/worker_link.h"

namespace etalon::serve {

namespace {

class Process : public Worker {
  public:
    explicit Process(const wire::WorkerOptions& options)
        : process_(wire::WorkerProcess::start(options)) {}
    int fd() const override { return process_.fd(); }
    void send(const wire::ToWorker& message) override { process_.send(message); }
    bool wants_write() const override { return process_.wants_write(); }
    void flush() override { process_.flush(); }
    std::vector<wire::ToFront> receive() override { return process_.receive(); }
    bool has_left() const override { return process_.has_left(); }

  private:
    wire::WorkerProcess process_;
};

}  // namespace

std::unique_ptr<Worker> start_worker_process(const wire::WorkerOptions& options) {
    return std::make_unique<Process>(options);
}

}  // namespace etalon::serve
