// SPDX-License-Identifier: Apache-2.0
// What the front gives up once it listens.
#pragma once

namespace etalon::serve {

/// From here on neither this process nor one that it starts opens a connection: the kernel refuses
/// connect, sockets of internet families, addressed sends and io_uring (which would be a way around
/// the others) with EPERM. Listening sockets and accepted connections go on. Where the kernel does
/// not know seccomp, a line on stderr says so.
void refuse_connections();

}  // namespace etalon::serve
