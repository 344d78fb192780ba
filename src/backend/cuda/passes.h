// SPDX-License-Identifier: Apache-2.0
// Forward passes under way on the card: one, and one that was begun behind it before it is finished
// (Backend::can_follow). What comes to the host has a place for each of them, in turns.
#pragma once

#include <array>
#include <cstddef>

#include "backend/cuda/batch.h"
#include "backend/cuda/common/event.h"
#include "backend/cuda/draws.h"
#include "backend/cuda/results.h"

namespace etalon::backend::cuda {

class Passes {
  public:
    /// Sends the batch. Where another pass is under way, its draws have been started: then this one
    /// follows it, and all that the other one brings is on the stream ahead. One that was begun and
    /// came to no draws, after an error, is forgotten once the stream is idle.
    void begin(const Batch& batch, Stream stream);
    /// The older pass that is under way: waits for it and sets what it brings. Errors: unavailable;
    /// the pass is not under way any more then.
    void finish(const Batch& batch, Stream stream);
    /// The draws of the pass that was begun last are started: another one may be begun.
    void set_drawn() noexcept { newest().is_drawn = true; }

    /// Whether this is the pass that was begun last, and it is under way.
    bool holds(const Batch& batch) const noexcept {
        return n_under_way_ > 0 && passes_[newest_].host.holds(batch);
    }
    bool is_under_way() const noexcept { return n_under_way_ > 0; }
    const BatchView& view() const noexcept { return batch_.view(); }

    /// --- of the pass that was begun last ---
    HostBatch& host() noexcept { return newest().host; }
    Results& results() noexcept { return newest().results; }
    Draws& draws() noexcept { return newest().draws; }

    /// Of the pass that was finished last: readable until the one behind the next is begun, or the
    /// next where that one does not follow.
    const Results& finished() const noexcept { return passes_[finished_].results; }

  private:
    struct Pass {
        explicit Pass(DrawRooms& rooms) : draws(rooms) {}

        HostBatch host;
        Results results;
        Draws draws;
        Event sent;  // where another pass follows: behind all that comes to the host
        bool is_drawn = false;
        bool is_sent = false;
    };

    Pass& newest() noexcept { return passes_[newest_]; }
    void forget_newest(Stream stream);
    static void send(Pass& pass, Stream stream);

    DrawRooms rooms_;
    DeviceBatch batch_;
    std::array<Pass, 2> passes_{{Pass(rooms_), Pass(rooms_)}};
    int n_under_way_ = 0;
    std::size_t newest_ = 0;  // the other one is older
    std::size_t finished_ = 0;
};

}  // namespace etalon::backend::cuda
