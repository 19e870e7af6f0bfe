// nanduti-worker: trains what the coordinator gives it, until it is told to stop.

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

using namespace nanduti;

namespace {

constexpr int kDrainMsMax = 30'000;

const DaemonDescription kDaemon{"nanduti-worker",
                                "Trains neural networks for the coordinator that its config names.",
                                "configs/worker.yaml",
                                "SIGINT and SIGTERM: finish the round, hand back the rest, deliver what is "
                                "pushed, end. A second one ends\n"
                                "the worker at once; the job goes on without it."};

/// The device that the config names; null: the CPU.
Result<std::shared_ptr<DeviceModule>> open_device(const DeviceChoice& choice) {
  using Opened = std::shared_ptr<DeviceModule>;
  if (choice.kind == DeviceKind::kAuto || choice.kind == DeviceKind::kCpu) return Opened();
  const bool emulated = choice.kind == DeviceKind::kEmulated;
  Result<Opened> opened =
      DeviceModule::open(emulated ? DeviceModuleKind::kEmulated : DeviceModuleKind::kCuda, choice.index);
  if (opened.ok()) return opened;
  return opened.error().within(emulated ? "device: emulated" : fmt::format("device: cuda:{}", choice.index));
}

Status check(const WorkerConfig& config) {
  if (const auto device = open_device(config.device); !device.ok()) return device.error();
  NANDUTI_RETURN_IF_ERROR(choose_congestion_control(config.transport.congestion_control));
  return {};
}

std::unique_ptr<Backend> make_backend(const WorkerConfig& config) {
  return config.backend == BackendChoice::kReference ? make_reference_backend() : make_onednn_backend();
}

/// The worker's exit status.
int run(WorkerConfig config) {
  StopSignal signal;
  std::unique_ptr<Backend> backend = make_backend(config);
  Result<std::unique_ptr<ZmqTransport>> transport =
      ZmqTransport::start({.congestion_control = config.transport.congestion_control});
  if (!transport.ok()) {
    log_error("{}", transport.error().message);
    return 1;
  }
  const Result<std::shared_ptr<DeviceModule>> device = open_device(config.device);
  if (!device.ok()) {
    log_error("{}", device.error().message);
    return kMachineLacks;
  }
  log_info("nanduti-worker {} on {}; the coordinator is {}", kProgramVersion, backend->name(),
           config.coordinator.tcp());
  if (*device)
    log_info("updates are coded on {}; the CPU computes: layers do not run on devices yet",
             (*device)->description());
  WorkerHost host(config, **transport, std::move(backend), *device, [&] { signal.wake(); });
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

}  // namespace

int main(int argc, char** argv) {
  return daemon_main<WorkerConfig>(kDaemon, {argv, static_cast<std::size_t>(argc)}, load_worker_config, check,
                                   run);
}
