// Lets a program that can't be told to, perf_analyzer, send the key of a server with its requests: the two lines of an
// environment variable are the server's addresses (a.b.c.d:port, with spaces between them) and the header. What the
// program sends to these addresses is looked at as it is sent, and never copied:
//
// - HTTP/1.1: a send that begins a request to a restricted endpoint gets a line of header more.
// - gRPC, HTTP/2: of the frames only the nine bytes before each are looked at. A frame of headers gets a field more,
//   one that HPACK never puts into its table, so that the rest of the connection stays as it was. Whether the request
//   is restricted can't be seen without the table; the field costs some 80 bytes of the connection.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shared.h"

namespace {

using access_key::starts_with;

constexpr int kMostDescriptors = 65536;
constexpr size_t kMostServers = 16;
constexpr size_t kMostPieces = 256;
constexpr size_t kMostLength = 126;  // of name and of value: HPACK writes them in one byte each
constexpr size_t kFrameHeader = 9;
constexpr size_t kMostFrame = 16384;
constexpr char kPreface[] = "PRI * HTTP/2.0\r\n";  // how HTTP/2 begins
constexpr uint32_t kPrefaceSize = 24;
constexpr uint8_t kHeaders = 1, kEndHeaders = 0x4, kPadded = 0x8;
constexpr char kGrpcPrefix[] = "triton-grpc-protocol-";
constexpr const char* kRestricted[] = {
    "/v2/systemsharedmemory", "/v2/cudasharedmemory", "/v2/repository", "/v2/trace", "/v2/logging"};

enum class Protocol : uint8_t { kOther, kUnknown, kHttp, kGrpc };

/// What is known of a connection: how much of a frame (at first of the preface) is still to come, and whether a field
/// belongs after it.
struct Connection {
  Protocol protocol;
  bool field_follows;
  uint32_t frame_left;
};

/// A part of what goes out: the program's own bytes, or others that stand for `taken` of them.
struct Piece {
  const char* data;
  size_t size;
  size_t taken;
  bool own;
  Connection after;  // for a piece of the program's: before what was sent of it is taken off
};

struct Plan {
  Piece pieces[kMostPieces];
  char headers[kMostPieces][kFrameHeader];
  size_t count = 0;
};

Connection connections[kMostDescriptors];
sockaddr_in servers[kMostServers];
size_t server_count = 0;
char line[2 * kMostLength + 8];  // of HTTP
size_t line_size = 0;
char field[2 * kMostLength + 8];  // of HPACK
size_t field_size = 0;

ssize_t (*real_send)(int, const void*, size_t, int) = nullptr;
ssize_t (*real_sendmsg)(int, const msghdr*, int) = nullptr;
int (*real_connect)(int, const sockaddr*, socklen_t) = nullptr;
int (*real_close)(int) = nullptr;

template <typename Function>
void find(Function& function, const char* name) {
  if (function == nullptr) function = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

void add_server(char* address) {
  char* colon = strrchr(address, ':');
  if (colon == nullptr || server_count == kMostServers) return;
  *colon = '\0';
  sockaddr_in& server = servers[server_count];
  if (inet_pton(AF_INET, address, &server.sin_addr) != 1) return;
  unsigned port = 0;
  for (const char* digit = colon + 1; *digit >= '0' && *digit <= '9'; ++digit) port = 10 * port + (*digit - '0');
  server.sin_port = htons(static_cast<uint16_t>(port));
  ++server_count;
}

size_t append(char* to, size_t size, const char* text) {
  memcpy(to + size, text, strlen(text));
  return size + strlen(text);
}

void write_headers(const char* name, const char* value) {
  const size_t name_size = strlen(kGrpcPrefix) + strlen(name);
  if (name_size > kMostLength || strlen(value) > kMostLength) return;
  line_size = append(line, append(line, append(line, append(line, 0, name), ": "), value), "\r\n");
  field[0] = 0x10;  // a literal that is never indexed, with its name
  field[1] = static_cast<char>(name_size);
  field_size = append(field, append(field, 2, kGrpcPrefix), name);
  field[field_size++] = static_cast<char>(strlen(value));
  field_size = append(field, field_size, value);
}

__attribute__((constructor)) void read_variable() {
  const char* text = getenv(access_key::kClientKey);
  char* copy = text == nullptr ? nullptr : strdup(text);
  if (copy == nullptr) return;
  char* header = strchr(copy, '\n');
  char* value = header == nullptr ? nullptr : strstr(header, ": ");
  if (value != nullptr) {
    *header = *value = '\0';
    write_headers(header + 1, value + 2);
    char* state = nullptr;
    for (char* item = strtok_r(copy, " ", &state); item != nullptr; item = strtok_r(nullptr, " ", &state)) {
      add_server(item);
    }
    if (line_size == 0) server_count = 0;
  }
  memset(copy, 0, strlen(text));
  free(copy);
}

bool is_server(const sockaddr* address, socklen_t size) {
  in_addr host{};
  uint16_t port = 0;
  if (address->sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    const auto* four = reinterpret_cast<const sockaddr_in*>(address);
    host = four->sin_addr;
    port = four->sin_port;
  } else if (address->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    const auto* six = reinterpret_cast<const sockaddr_in6*>(address);
    if (!IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) return false;
    memcpy(&host, six->sin6_addr.s6_addr + 12, sizeof(host));
    port = six->sin6_port;
  }
  for (size_t i = 0; i < server_count; ++i) {
    if (servers[i].sin_addr.s_addr == host.s_addr && servers[i].sin_port == port) return true;
  }
  return false;
}

Connection* connection_of(int descriptor) {
  if (server_count == 0 || descriptor < 0 || descriptor >= kMostDescriptors) return nullptr;
  Connection& connection = connections[descriptor];
  return connection.protocol == Protocol::kOther ? nullptr : &connection;
}

void add(Plan& plan, const char* data, size_t size, size_t taken, bool own, const Connection& after) {
  plan.pieces[plan.count++] = {data, size, taken, own, after};
}

/// Where a line of header belongs in a request that begins here; null where none does.
const char* line_end(const char* data, size_t size) {
  const char* path = starts_with(data, size, "POST ") ? data + 5 : starts_with(data, size, "GET ") ? data + 4 : nullptr;
  if (path == nullptr) return nullptr;
  for (const char* restricted : kRestricted) {
    if (!starts_with(path, static_cast<size_t>(data + size - path), restricted)) continue;
    const void* end = memmem(path, static_cast<size_t>(data + size - path), "\r\n", 2);
    return end == nullptr ? nullptr : static_cast<const char*>(end) + 2;
  }
  return nullptr;
}

void plan_http(Plan& plan, const Connection& connection, const iovec* parts, size_t count) {
  for (size_t i = 0; i < count && plan.count + 3 <= kMostPieces; ++i) {
    const char* data = static_cast<const char*>(parts[i].iov_base);
    const char* end = i == 0 ? line_end(data, parts[i].iov_len) : nullptr;
    if (end == nullptr) {
      add(plan, data, parts[i].iov_len, parts[i].iov_len, false, connection);
      continue;
    }
    const auto first = static_cast<size_t>(end - data);
    add(plan, data, first, first, false, connection);
    add(plan, line, line_size, 0, true, connection);
    if (first < parts[i].iov_len) {
      add(plan, end, parts[i].iov_len - first, parts[i].iov_len - first, false, connection);
    }
  }
}

/// The parts from a place on.
struct Cursor {
  const iovec* parts;
  size_t count;
  size_t offset = 0;

  void skip_empty() {
    while (count > 0 && offset == parts->iov_len) {
      ++parts;
      --count;
      offset = 0;
    }
  }

  /// Copies `size` bytes and goes on behind them; false, and stays, where there are fewer.
  bool copy(char* to, size_t size) {
    Cursor ahead = *this;
    for (size_t done = 0; done < size;) {
      ahead.skip_empty();
      if (ahead.count == 0) return false;
      const size_t left = ahead.parts->iov_len - ahead.offset;
      const size_t step = left < size - done ? left : size - done;
      memcpy(to + done, static_cast<const char*>(ahead.parts->iov_base) + ahead.offset, step);
      done += step;
      ahead.offset += step;
    }
    *this = ahead;
    return true;
  }
};

/// Makes room in the frame's length for the field, if it is one of headers.
void open_frame(Connection& connection, char* header) {
  auto* bytes = reinterpret_cast<uint8_t*>(header);
  const uint32_t size = static_cast<uint32_t>(bytes[0]) << 16 | static_cast<uint32_t>(bytes[1]) << 8 | bytes[2];
  connection.frame_left = size;
  connection.field_follows =
      bytes[3] == kHeaders && (bytes[4] & (kEndHeaders | kPadded)) == kEndHeaders && size + field_size <= kMostFrame;
  if (!connection.field_follows) return;
  const uint32_t larger = size + static_cast<uint32_t>(field_size);
  bytes[0] = static_cast<uint8_t>(larger >> 16);
  bytes[1] = static_cast<uint8_t>(larger >> 8);
  bytes[2] = static_cast<uint8_t>(larger);
}

/// Stops, so that less is sent than was given, where a plan is full or a frame's header is not there as a whole.
void plan_grpc(Plan& plan, Connection connection, Cursor cursor) {
  while (true) {
    if (connection.frame_left == 0 && connection.field_follows) {
      connection.field_follows = false;
      add(plan, field, field_size, 0, true, connection);
      continue;
    }
    cursor.skip_empty();
    if (cursor.count == 0 || plan.count + 2 > kMostPieces) return;
    if (connection.frame_left == 0) {
      char* header = plan.headers[plan.count];
      if (!cursor.copy(header, kFrameHeader)) return;
      open_frame(connection, header);
      add(plan, header, kFrameHeader, kFrameHeader, true, connection);
      continue;
    }
    const size_t left = cursor.parts->iov_len - cursor.offset;
    const size_t size = left < connection.frame_left ? left : connection.frame_left;
    Connection before = connection;
    connection.frame_left -= static_cast<uint32_t>(size);
    add(plan, static_cast<const char*>(cursor.parts->iov_base) + cursor.offset, size, size, false, before);
    cursor.offset += size;
  }
}

/// Sends all of it, also where the program would rather not wait: it knows nothing of these few bytes.
void send_whole(int descriptor, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = real_send(descriptor, data, size, MSG_NOSIGNAL);
    if (sent >= 0) {
      data += sent;
      size -= static_cast<size_t>(sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd waited{descriptor, POLLOUT, 0};
      poll(&waited, 1, 1000);
    } else if (errno != EINTR) {
      return;  // the connection is broken, which the program's next send is told
    }
  }
}

/// How much of the program's own bytes went out with `sent` of the plan's; notes where the connection is now.
ssize_t settle(int descriptor, Connection& connection, const Plan& plan, size_t sent) {
  size_t taken = 0;
  for (size_t i = 0; i < plan.count; ++i) {
    const Piece& piece = plan.pieces[i];
    const size_t of_piece = sent < piece.size ? sent : piece.size;
    if (of_piece < piece.size) {
      if (piece.own && (of_piece > 0 || piece.taken == 0)) {  // begun, or what belongs to bytes that are out
        const int error = errno;
        send_whole(descriptor, piece.data + of_piece, piece.size - of_piece);
        errno = error;
        taken += piece.taken;
        connection = piece.after;
        sent = 0;
        continue;
      }
      if (!piece.own && of_piece > 0) {
        connection = piece.after;
        connection.frame_left -= connection.protocol == Protocol::kGrpc ? static_cast<uint32_t>(of_piece) : 0;
        taken += of_piece;
      }
      return static_cast<ssize_t>(taken);
    }
    sent -= of_piece;
    taken += piece.taken;
    connection = piece.after;
    if (!piece.own && connection.protocol == Protocol::kGrpc) connection.frame_left -= static_cast<uint32_t>(piece.size);
  }
  return static_cast<ssize_t>(taken);
}

ssize_t send_with_key(int descriptor, Connection& connection, const msghdr* message, int flags) {
  Cursor cursor{message->msg_iov, message->msg_iovlen};
  cursor.skip_empty();
  if (cursor.count == 0) return real_sendmsg(descriptor, message, flags);
  if (connection.protocol == Protocol::kUnknown) {
    const bool grpc = starts_with(static_cast<const char*>(cursor.parts->iov_base), cursor.parts->iov_len, kPreface);
    connection = {grpc ? Protocol::kGrpc : Protocol::kHttp, false, grpc ? kPrefaceSize : 0};
  }
  Plan plan;
  if (connection.protocol == Protocol::kGrpc) {
    plan_grpc(plan, connection, cursor);
  } else {
    plan_http(plan, connection, cursor.parts, cursor.count);
  }
  if (plan.count == 0) {  // part of a frame's header: nothing can be told of this connection any more
    connection.protocol = Protocol::kOther;
    return real_sendmsg(descriptor, message, flags);
  }
  iovec parts[kMostPieces];
  for (size_t i = 0; i < plan.count; ++i) {
    parts[i] = {const_cast<char*>(plan.pieces[i].data), plan.pieces[i].size};
  }
  msghdr changed = *message;
  changed.msg_iov = parts;
  changed.msg_iovlen = plan.count;
  const ssize_t sent = real_sendmsg(descriptor, &changed, flags);
  return sent < 0 ? sent : settle(descriptor, connection, plan, static_cast<size_t>(sent));
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int connect(int descriptor, const sockaddr* address, socklen_t size) {
  find(real_connect, "connect");
  if (server_count > 0 && descriptor >= 0 && descriptor < kMostDescriptors) {
    connections[descriptor] = {is_server(address, size) ? Protocol::kUnknown : Protocol::kOther, false, 0};
  }
  return real_connect(descriptor, address, size);
}

EXPORTED int close(int descriptor) {
  find(real_close, "close");
  if (Connection* connection = connection_of(descriptor)) connection->protocol = Protocol::kOther;
  return real_close(descriptor);
}

EXPORTED ssize_t send(int descriptor, const void* data, size_t size, int flags) {
  find(real_send, "send");
  find(real_sendmsg, "sendmsg");
  Connection* connection = connection_of(descriptor);
  if (connection == nullptr) return real_send(descriptor, data, size, flags);
  iovec part{const_cast<void*>(data), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return send_with_key(descriptor, *connection, &message, flags);
}

EXPORTED ssize_t sendmsg(int descriptor, const msghdr* message, int flags) {
  find(real_send, "send");
  find(real_sendmsg, "sendmsg");
  Connection* connection = connection_of(descriptor);
  return connection == nullptr ? real_sendmsg(descriptor, message, flags)
                               : send_with_key(descriptor, *connection, message, flags);
}
