// SPDX-License-Identifier: Apache-2.0
// Frames over a real socket pair: whole, in pieces, larger than its buffer, hostile.
#include "wire/channel.h"

#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "wire/limits.h"

namespace etalon::wire {
namespace {

struct Pair {
    Pair() {
        std::array<int, 2> ends{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
        raw = ends[0];
        channel = std::make_unique<Channel>(ends[1]);
    }
    ~Pair() { hang_up(); }
    void hang_up() {
        if (raw >= 0) ::close(raw);
        raw = -1;
    }
    void write(const std::string& bytes) const {
        ASSERT_EQ(::send(raw, bytes.data(), bytes.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(bytes.size()));
    }

    int raw = -1;
    std::unique_ptr<Channel> channel;
};

TEST(Channel, a_frame_in_single_bytes_arrives_whole) {
    Pair pair;
    const std::string bytes("\x03\x00\x00\x00xyz", 7);
    for (const char byte : bytes) {
        EXPECT_FALSE(pair.channel->next().has_value());
        pair.write(std::string(1, byte));
        pair.channel->read();
    }
    EXPECT_EQ(pair.channel->next(), "xyz");
    EXPECT_FALSE(pair.channel->next().has_value());
}

TEST(Channel, many_frames_of_one_read_come_in_order) {
    Pair pair;
    std::string bytes;
    for (char i = 0; i < 100; ++i)
        bytes += std::string("\x01\x00\x00\x00", 4) + i;
    pair.write(bytes);
    pair.channel->read();
    for (char i = 0; i < 100; ++i)
        EXPECT_EQ(pair.channel->next(), std::string(1, i));
}

TEST(Channel, a_frame_larger_than_the_socket_waits_and_arrives) {
    Pair pair;
    Channel other(::dup(pair.raw));
    const std::string frame(8 << 20, 'f');
    pair.channel->push(frame);
    EXPECT_TRUE(pair.channel->wants_write());
    std::optional<std::string> got;
    for (int turns = 0; !got && turns < 100000; ++turns) {
        other.read();
        got = other.next();
        pair.channel->flush();
    }
    EXPECT_EQ(got, frame);
    EXPECT_FALSE(pair.channel->wants_write());
}

TEST(Channel, an_empty_and_an_enormous_frame_are_refused_before_their_bytes) {
    for (const std::string& head :
         {std::string("\0\0\0\0", 4), std::string("\xff\xff\xff\x7f", 4)}) {
        Pair pair;
        pair.write(head);
        pair.channel->read();
        EXPECT_THROW((void)pair.channel->next(), Error);
    }
}

TEST(Channel, the_end_of_the_peer_shows_behind_its_frames) {
    Pair pair;
    pair.write(std::string("\x01\x00\x00\x00z\x09", 6));  // and the beginning of another
    pair.hang_up();
    pair.channel->read();
    EXPECT_EQ(pair.channel->next(), "z");
    pair.channel->read();
    EXPECT_FALSE(pair.channel->next().has_value());
    EXPECT_TRUE(pair.channel->at_end());
    pair.channel->push("nobody hears this");
    EXPECT_FALSE(pair.channel->wants_write());
}

TEST(Channel, a_descriptor_ends_the_connection) {
    Pair pair;
    std::string bytes("\x01\x00\x00\x00z", 5);
    iovec part{bytes.data(), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &pair.raw, sizeof(int));
    ASSERT_EQ(::sendmsg(pair.raw, &message, 0), static_cast<ssize_t>(bytes.size()));
    EXPECT_THROW(pair.channel->read(), Error);
}

TEST(Channel, only_a_stream_socket_is_one) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends.data()), 0);
    EXPECT_THROW(Channel{ends[0]}, Error);
    EXPECT_THROW(Channel{STDIN_FILENO}, Error);
    ::close(ends[0]);
    ::close(ends[1]);
}

}  // namespace
}  // namespace etalon::wire
