// SPDX-License-Identifier: Apache-2.0
// A handler can reach nothing but what is global: this is the one variable of the program.
#include "cli/interrupt.h"

#include <csignal>

namespace etalon::cli {

namespace {

volatile std::sig_atomic_t g_interrupted = 0;

void on_interrupt(int) {
    g_interrupted = 1;
}

}  // namespace

void catch_interrupt() {
    struct sigaction action {};
    action.sa_handler = on_interrupt;  // without SA_RESTART: what waits ends too
    ::sigaction(SIGINT, &action, nullptr);
}

bool is_interrupted() noexcept {
    return g_interrupted != 0;
}

void forget_interrupt() noexcept {
    g_interrupted = 0;
}

}  // namespace etalon::cli
