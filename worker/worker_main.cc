// nanduti-worker: trains what the coordinator gives it, until it is told to stop.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/base/log.h"
#include "common/base/named_count.h"
#include "common/base/version.h"
#include "common/compute/onednn/onednn_backend.h"
#include "common/compute/reference/reference_backend.h"
#include "common/config/daemon_main.h"
#include "common/config/worker_config.h"
#include "common/net/congestion_control.h"
#include "common/net/stop_signal.h"
#include "worker/daemon/worker_host.h"
#include "worker/device/device_module.h"
#include "worker/device/host_device.h"
#include "worker/selftest/selftest.h"

using namespace nanduti;

namespace {

constexpr int kDrainMsMax = 30'000;

const DaemonDescription kDaemon{"nanduti-worker",
                                "Trains neural networks for the coordinator that its config names.",
                                "configs/worker.yaml",
                                "SIGINT and SIGTERM: finish the round, hand back the rest, deliver what is "
                                "pushed, end. A second one ends\n"
                                "the worker at once; the job goes on without it.",
                                "       nanduti-worker --selftest [--device DEVICE] [--tf32] [--seconds S] "
                                "[--json]\n"};

std::shared_ptr<ComputeDevice> make_host_device(BackendChoice choice) {
  return std::make_shared<HostDevice>(choice == BackendChoice::kReference ? make_reference_backend()
                                                                          : make_onednn_backend());
}

/// What was chosen; of auto, the first GPU, or the CPU and why.
Result<std::shared_ptr<ComputeDevice>> open_device(const DeviceChoice& choice, bool tf32,
                                                   BackendChoice backend) {
  using Opened = std::shared_ptr<ComputeDevice>;
  // Whoever names a library for the CPU means the CPU.
  const bool means_cpu = choice.kind == DeviceKind::kAuto && backend != BackendChoice::kAuto;
  if (choice.kind == DeviceKind::kCpu || means_cpu) return make_host_device(backend);
  const bool emulated = choice.kind == DeviceKind::kEmulated;
  Result<std::shared_ptr<DeviceModule>> opened = DeviceModule::open(
      emulated ? DeviceModuleKind::kEmulated : DeviceModuleKind::kCuda, {choice.index, tf32});
  if (opened.ok()) return Opened(*opened);
  if (choice.kind == DeviceKind::kAuto) {
    constexpr const char* kWords = "device: auto is the CPU here: {}";
    if (opened.error().code == ErrorCode::kNotFound)
      log_info(kWords, opened.error().message);
    else
      log_warning(kWords, opened.error().message);
    return make_host_device(backend);
  }
  return opened.error().within(emulated ? "device: emulated" : fmt::format("device: cuda:{}", choice.index));
}

Result<std::shared_ptr<ComputeDevice>> open_device(const WorkerConfig& config) {
  return open_device(config.device, config.tf32, config.backend);
}

Status check(const WorkerConfig& config) {
  // auto is content with what there is, and says so once.
  if (config.device.kind != DeviceKind::kAuto)
    if (const auto device = open_device(config); !device.ok()) return device.error();
  NANDUTI_RETURN_IF_ERROR(choose_congestion_control(config.transport.congestion_control));
  return {};
}

/// The worker's exit status.
int run(WorkerConfig config) {
  StopSignal signal;
  Result<std::unique_ptr<ZmqTransport>> transport =
      ZmqTransport::start({.congestion_control = config.transport.congestion_control});
  if (!transport.ok()) {
    log_error("{}", transport.error().message);
    return 1;
  }
  const Result<std::shared_ptr<ComputeDevice>> device = open_device(config);
  if (!device.ok()) {
    log_error("{}", device.error().message);
    return kMachineLacks;
  }
  log_info("nanduti-worker {} on {}; the coordinator is {}", kProgramVersion, (*device)->description(),
           config.coordinator.tcp());
  WorkerHost host(config, **transport, *device, [&] { signal.wake(); });
  host.start();
  if (signal.wait() == StopSignal::Cause::kSignal) {
    log_info("stopping: the round in hand is finished and delivered first; once more to end at once");
    host.drain();
    switch (signal.wait(kDrainMsMax)) {
      case StopSignal::Cause::kSignal:
        log_warning("ended before everything was delivered");
        return 1;
      case StopSignal::Cause::kTimeout:
        log_warning("ended after {} s: the servers do not answer, so not everything was delivered",
                    kDrainMsMax / 1000);
        return 1;
      case StopSignal::Cause::kWoken:
        break;
    }
  }
  log_info("counters of transport: {}", to_text((*transport)->counters().named()));
  log_info("counters of client: {}", to_text(host.counters()));
  if (!host.failure().empty()) {
    log_error("{}", host.failure());
    return 1;
  }
  log_info("the worker has left");
  return 0;
}

constexpr int kUsageError = 64;
/// nanduti-worker --selftest: exit status 0 passed, 1 not or the device has failed, kMachineLacks.
int self_test(std::span<char* const> arguments) {
  DeviceChoice choice;
  SelfTestOptions options;
  bool json = false;
  const auto wrong = [](const std::string& what) {
    fmt::print(stderr, "nanduti-worker: --selftest: {} (see --help)\n", what);
    return kUsageError;
  };
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    const std::string value = i + 1 < arguments.size() ? arguments[i + 1] : "";
    if (argument == "--device") {
      const std::optional<DeviceChoice> device = parse_device(value);
      if (!device) return wrong(fmt::format("--device wants {}, not '{}'", device_choices(), value));
      choice = *device;
      ++i;
    } else if (argument == "--seconds") {
      char* end = nullptr;
      options.seconds = std::strtod(value.c_str(), &end);
      if (value.empty() || *end != 0 || !(options.seconds > 0 && options.seconds <= 3600))
        return wrong(fmt::format("--seconds wants a number up to 3600, not '{}'", value));
      ++i;
    } else if (argument == "--tf32") {
      options.tf32 = true;
    } else if (argument == "--json") {
      json = true;
    } else if (argument != "--selftest") {
      return wrong(fmt::format("unknown argument '{}'", argument));
    }
  }
  const auto device = open_device(choice, options.tf32, BackendChoice::kAuto);
  if (!device.ok()) {
    log_error("{}", device.error().message);
    return kMachineLacks;
  }
  const Result<SelfTestReport> report = run_self_test(**device, options);
  if (!report.ok()) {
    log_error("the device has failed: {}", report.error().message);
    return 1;
  }
  fmt::print("{}", json ? to_json(*report) : to_text(*report));
  return report->passed() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char* const> arguments{argv, static_cast<std::size_t>(argc)};
  if (std::ranges::any_of(arguments.subspan(1),
                          [](const char* argument) { return std::string_view(argument) == "--selftest"; }) &&
      std::ranges::none_of(arguments,
                           [](const char* argument) { return std::string_view(argument) == "--help"; }))
    return self_test(arguments);
  return daemon_main<WorkerConfig>(kDaemon, arguments, load_worker_config, check, run);
}
