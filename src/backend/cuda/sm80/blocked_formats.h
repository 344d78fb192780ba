// SPDX-License-Identifier: Apache-2.0
// One instance of a template for each blocked format.
#pragma once

#include "base/error.h"
#include "exact/formats.h"

namespace etalon::backend::cuda {

/// Of<format>::run of a blocked format.
template <template <exact::Format> typename Of>
auto run_of_blocked(exact::Format format) {
    using exact::Format;
    switch (format) {
        case Format::q4_0:
            return Of<Format::q4_0>::run;
        case Format::q4_1:
            return Of<Format::q4_1>::run;
        case Format::q5_0:
            return Of<Format::q5_0>::run;
        case Format::q5_1:
            return Of<Format::q5_1>::run;
        case Format::q8_0:
            return Of<Format::q8_0>::run;
        case Format::q2_k:
            return Of<Format::q2_k>::run;
        case Format::q3_k:
            return Of<Format::q3_k>::run;
        case Format::q4_k:
            return Of<Format::q4_k>::run;
        case Format::q5_k:
            return Of<Format::q5_k>::run;
        case Format::q6_k:
            return Of<Format::q6_k>::run;
        case Format::iq4_nl:
            return Of<Format::iq4_nl>::run;
        default:
            ETALON_ASSERT(format == Format::iq4_xs);
            return Of<Format::iq4_xs>::run;
    }
}

}  // namespace etalon::backend::cuda
