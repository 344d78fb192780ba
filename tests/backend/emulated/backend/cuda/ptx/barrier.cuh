// SPDX-License-Identifier: Apache-2.0
// Named barriers.
#pragma once

#include "backend/emulated/block.h"

namespace etalon::backend::cuda {

inline void named_sync(int barrier, int n_threads) {
    emulated::barriers.at(static_cast<std::size_t>(barrier)).meet(n_threads, true);
}
inline void named_arrive(int barrier, int n_threads) {
    emulated::barriers.at(static_cast<std::size_t>(barrier)).meet(n_threads, false);
}

}  // namespace etalon::backend::cuda
