#include "test/wan/tun_link.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "common/config/scalar.h"

namespace nanduti::wan {
namespace {

/// Packets that are read from one side before the other has its turn.
constexpr int kBatchPackets = 64;
constexpr std::size_t kPacketBytesMax = 65'536;
constexpr std::size_t kCommandBytesMax = 4'096;
/// Rounds that follow each other closely are this far apart, so that several packets share the price of a
/// round; where the delay is short, a part of it.
constexpr LinkTime kRestMax = std::chrono::microseconds(200);
constexpr LinkTime::rep kDelayParts = 200;
constexpr LinkTime kIdleWait = std::chrono::hours(1);
constexpr double kBlackoutSecondsMax = 86'400;
constexpr auto kAnswerTimeout = std::chrono::seconds(5);

Error system_error(std::string_view what) {
  return make_error(ErrorCode::kIo, "{}: {}", what, std::strerror(errno));
}

/// A device is made where the caller is when it opens /dev/net/tun.
Result<FileDescriptor> make_tun_here() {
  FileDescriptor device(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!device.is_open()) return system_error("/dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  std::strncpy(request.ifr_name, kTunDevice, sizeof request.ifr_name - 1);
  if (::ioctl(device.get(), TUNSETIFF, &request) != 0) return system_error("TUNSETIFF");
  return device;
}

Result<FileDescriptor> make_tun(const std::string& network_namespace) {
  const FileDescriptor home(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  const FileDescriptor there(::open(network_namespace.c_str(), O_RDONLY | O_CLOEXEC));
  if (!there.is_open()) return system_error(network_namespace);
  if (::setns(there.get(), CLONE_NEWNET) != 0) return system_error("setns");
  Result<FileDescriptor> device = make_tun_here();
  NANDUTI_CHECK(::setns(home.get(), CLONE_NEWNET) == 0);
  return device;
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  return address;
}

Result<FileDescriptor> open_control(const std::string& path) {
  FileDescriptor control(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!control.is_open()) return system_error("socket");
  const sockaddr_un address = address_of(path);
  if (path != address.sun_path) return make_error(ErrorCode::kInvalidArgument, "{}: too long", path);
  if (::bind(control.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return system_error(path);
  return control;
}

LinkTime steady_now() { return std::chrono::steady_clock::now().time_since_epoch(); }

timespec to_timespec(LinkTime time) {
  return {time / std::chrono::seconds(1), (time % std::chrono::seconds(1)).count()};
}

double as_milliseconds(LinkTime time) { return static_cast<double>(time.count()) / 1e6; }

std::string error_json(const std::string& message) {
  std::string text;
  for (const char c : message) {
    if (c == '"' || c == '\\') text += '\\';
    text += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return fmt::format(R"({{"error":"{}"}})", text);
}

std::string way_json(const LinkWay& way, LinkTime now) {
  const LinkCounters& c = way.counters();
  const LinkTime blackout = std::max(LinkTime(0), way.blackout_end() - now);
  return fmt::format(
      R"({{"packets_in":{},"bytes_in":{},"packets_out":{},"bytes_out":{},"dropped_queue":{},"dropped_loss":{},)"
      R"("dropped_blackout":{},"duplicates":{},"reordered":{},"queue_bytes":{},"queue_bytes_peak":{},)"
      R"("blackout_left_ms":{}}})",
      c.packets_in, c.bytes_in, c.packets_out, c.bytes_out, c.dropped_queue, c.dropped_loss,
      c.dropped_blackout, c.duplicates, c.reordered, way.queue_bytes(), c.queue_bytes_peak,
      as_milliseconds(blackout));
}

/// Ahead of what it carries, or its delays would be those of a busy machine. False if the system refuses.
bool become_real_time() {
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  sched_param parameters{};
  parameters.sched_priority = 1;
  return ::sched_setscheduler(0, SCHED_FIFO, &parameters) == 0;
}

}  // namespace

Result<TunLink> TunLink::open(const TunLinkOptions& options) {
  Result<FileDescriptor> server = make_tun(options.server_namespace);
  if (!server.ok()) return server.error();
  Result<FileDescriptor> workers = make_tun(options.workers_namespace);
  if (!workers.ok()) return workers.error();
  Result<FileDescriptor> control = open_control(options.control_path);
  if (!control.ok()) return control.error();
  return TunLink(std::move(*server), std::move(*workers), std::move(*control), options);
}

TunLink::TunLink(FileDescriptor server, FileDescriptor workers, FileDescriptor control,
                 const TunLinkOptions& options)
    : server_(std::move(server)),
      workers_(std::move(workers)),
      control_(std::move(control)),
      start_(steady_now()),
      profile_(options.profile),
      up_(profile_.up, queue_bytes_max(profile_, profile_.up), options.seed, 0),
      down_(profile_.down, queue_bytes_max(profile_, profile_.down), options.seed, 1) {}

LinkTime TunLink::now() const { return steady_now() - start_; }

Status TunLink::run() {
  is_real_time_ = become_real_time();
  while (true) {
    rest();
    std::array<pollfd, 3> wanted{
        {{workers_.get(), POLLIN, 0}, {server_.get(), POLLIN, 0}, {control_.get(), POLLIN, 0}}};
    const timespec timeout = until_next_arrival();
    if (::ppoll(wanted.data(), wanted.size(), &timeout, nullptr) < 0 && errno != EINTR)
      return system_error("ppoll");
    if (wanted[0].revents != 0) NANDUTI_RETURN_IF_ERROR(read_packets(workers_, up_));
    if (wanted[1].revents != 0) NANDUTI_RETURN_IF_ERROR(read_packets(server_, down_));
    deliver(up_, server_);
    deliver(down_, workers_);
    if (wanted[2].revents != 0) answer_command();
  }
}

void TunLink::rest() const {
  const LinkTime rest =
      std::min({kRestMax, profile_.up.delay / kDelayParts, profile_.down.delay / kDelayParts});
  if (rest == LinkTime(0)) return;
  const timespec time = to_timespec(rest);
  (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

timespec TunLink::until_next_arrival() const {
  LinkTime next = now() + kIdleWait;
  for (const LinkWay* way : {&up_, &down_})
    next = std::min(next, way->next_arrival_at_least().value_or(next));
  return to_timespec(std::max(LinkTime(0), next - now()));
}

Status TunLink::read_packets(const FileDescriptor& from, LinkWay& way) {
  static thread_local std::array<std::byte, kPacketBytesMax> buffer;
  for (int i = 0; i < kBatchPackets; ++i) {
    const ssize_t size = ::read(from.get(), buffer.data(), buffer.size());
    if (size <= 0)
      return errno == EAGAIN || errno == EINTR ? Status() : system_error("reading from a TUN device");
    way.offer(now(), Packet(buffer.begin(), buffer.begin() + size));
  }
  return {};
}

void TunLink::deliver(LinkWay& way, const FileDescriptor& to) {
  const LinkTime time = now();
  while (const auto arrival = way.take(time)) {
    const LinkTime late = time - arrival->due;
    ++lateness_.arrivals;
    lateness_.total += late;
    lateness_.most = std::max(lateness_.most, late);
    if (::write(to.get(), arrival->packet.data(), arrival->packet.size()) < 0) ++not_taken_;
  }
}

void TunLink::answer_command() {
  std::array<char, kCommandBytesMax> command{};
  sockaddr_un asker{};
  socklen_t asker_size = sizeof asker;
  const ssize_t size = ::recvfrom(control_.get(), command.data(), command.size(), 0,
                                  reinterpret_cast<sockaddr*>(&asker), &asker_size);
  if (size < 0) return;
  const std::string text = answer(std::string_view(command.data(), static_cast<std::size_t>(size)));
  // Whoever does not wait for the answer goes without it.
  (void)::sendto(control_.get(), text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&asker),
                 asker_size);
}

std::string TunLink::answer(std::string_view command) {
  const std::string_view word = command.substr(0, command.find(' '));
  const std::string_view rest = command.substr(std::min(command.size(), word.size() + 1));
  if (word == "status") return status_json();
  if (word == "set") return answer_set(std::string(rest));
  if (word == "blackout") return answer_blackout(rest);
  return error_json(fmt::format("found \"{}\", allowed: status, set, blackout", word));
}

std::string TunLink::answer_set(const std::string& text) {
  const Result<LinkProfile> profile = resolve_profile(text, profile_);
  if (!profile.ok()) return error_json(profile.error().message);
  profile_ = *profile;
  up_.change(now(), profile_.up, queue_bytes_max(profile_, profile_.up));
  down_.change(now(), profile_.down, queue_bytes_max(profile_, profile_.down));
  return to_json(profile_);
}

std::string TunLink::answer_blackout(std::string_view arguments) {
  const std::string_view number = arguments.substr(0, arguments.find(' '));
  const std::string_view which = arguments.substr(std::min(arguments.size(), number.size() + 1));
  const auto seconds = parse_real_number(number);
  if (!seconds || *seconds < 0 || *seconds > kBlackoutSecondsMax)
    return error_json(
        fmt::format("found \"{}\", allowed: seconds from 0 to {}", number, kBlackoutSecondsMax));
  if (!which.empty() && which != "up" && which != "down")
    return error_json(fmt::format("found \"{}\", allowed: up, down, or nothing for both ways", which));
  const LinkTime begin = now();
  const LinkTime end = begin + LinkTime(static_cast<LinkTime::rep>(*seconds * 1e9));
  if (which != "down") up_.black_out(begin, end);
  if (which != "up") down_.black_out(begin, end);
  return status_json();
}

std::string TunLink::status_json() const {
  rusage used{};
  (void)::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  const LinkTime time = now();
  return fmt::format(
      R"({{"seconds":{:.3f},"cpu_seconds":{:.3f},"is_real_time":{},"late_ms_mean":{:.4f},"late_ms_max":{:.3f},)"
      R"("not_taken":{},"profile":{},"up":{},"down":{}}})",
      as_milliseconds(time) / 1000, seconds(used.ru_utime) + seconds(used.ru_stime), is_real_time_,
      lateness_.arrivals == 0 ? 0.0
                              : as_milliseconds(lateness_.total) / static_cast<double>(lateness_.arrivals),
      as_milliseconds(lateness_.most), not_taken_, to_json(profile_), way_json(up_, time),
      way_json(down_, time));
}

Result<std::string> ask_link(const std::string& control_path, const std::string& command) {
  const FileDescriptor asker(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!asker.is_open()) return system_error("socket");
  // An address of its own to be answered at: the system makes one up.
  sockaddr_un own{};
  own.sun_family = AF_UNIX;
  timeval timeout{};
  timeout.tv_sec = kAnswerTimeout.count();
  const sockaddr_un link = address_of(control_path);
  std::string answer(kPacketBytesMax, '\0');
  if (::bind(asker.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own.sun_family) != 0 ||
      ::setsockopt(asker.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0 ||
      ::sendto(asker.get(), command.data(), command.size(), 0, reinterpret_cast<const sockaddr*>(&link),
               sizeof link) < 0) {
    return make_error(ErrorCode::kUnavailable, "no link answers at {}: {}", control_path,
                      std::strerror(errno));
  }
  const ssize_t size = ::recv(asker.get(), answer.data(), answer.size(), 0);
  if (size < 0)
    return make_error(ErrorCode::kUnavailable, "no answer from the link at {}: {}", control_path,
                      std::strerror(errno));
  answer.resize(static_cast<std::size_t>(size));
  return answer;
}

}  // namespace nanduti::wan
