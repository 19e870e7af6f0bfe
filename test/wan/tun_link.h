#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "server/storage/file_descriptor.h"
#include "test/wan/link_model.h"

namespace nanduti::wan {

/// Where a link is made.
struct TunLinkOptions {
  std::string server_namespace;  ///< path of a network namespace
  std::string workers_namespace;
  std::string control_path;  ///< of the Unix datagram socket that takes commands
  LinkProfile profile;
  std::uint64_t seed = 1;
};

/// The TUN device's name in both namespaces.
inline constexpr const char* kTunDevice = "wan";

/// A TUN device in each of two network namespaces, and a link between them. Commands, each answered by one
/// JSON object, which holds "error" where something was wrong:
///   status
///   set PROFILE                    as resolve_profile understands it
///   blackout SECONDS [up|down]     both ways unless one is named; 0 ends it
/// One thread.
class TunLink {
 public:
  /// Errors: kIo, with what the system said.
  static Result<TunLink> open(const TunLinkOptions& options);

  /// Carries packets until the process is killed. Returns only with an error.
  Status run();

 private:
  struct Lateness {
    std::uint64_t arrivals = 0;
    LinkTime total{0};
    LinkTime most{0};
  };

  TunLink(FileDescriptor server, FileDescriptor workers, FileDescriptor control,
          const TunLinkOptions& options);

  [[nodiscard]] LinkTime now() const;
  Status read_packets(const FileDescriptor& from, LinkWay& way);
  void deliver(LinkWay& way, const FileDescriptor& to);
  void rest() const;
  [[nodiscard]] timespec until_next_arrival() const;
  void answer_command();
  std::string answer(std::string_view command);
  std::string answer_set(const std::string& profile);
  std::string answer_blackout(std::string_view arguments);
  [[nodiscard]] std::string status_json() const;

  FileDescriptor server_;
  FileDescriptor workers_;
  FileDescriptor control_;
  LinkTime start_;
  LinkProfile profile_;
  LinkWay up_;
  LinkWay down_;
  bool is_real_time_ = false;
  std::uint64_t not_taken_ = 0;  ///< packets that a device refused at the far end
  Lateness lateness_;            ///< of arrivals, against when they were due
};

/// Sends one command to the link behind `control_path` and returns its answer. Errors: kUnavailable.
Result<std::string> ask_link(const std::string& control_path, const std::string& command);

}  // namespace nanduti::wan
