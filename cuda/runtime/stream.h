#pragma once

#include <cuda_runtime_api.h>

#include "cuda/runtime/device_buffer.h"

namespace nanduti {

/// A stream that waits for no other one by itself, empty until make().
class DeviceStream {
 public:
  DeviceStream() = default;
  ~DeviceStream() {
    if (stream_ == nullptr) return;
    (void)cuda_status(cudaStreamSynchronize(stream_), "waiting");
    (void)cudaStreamDestroy(stream_);
  }
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;

  Status make() {
    return cuda_status(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  }
  Status wait() const { return cuda_status(cudaStreamSynchronize(stream_), "waiting for a stream"); }
  [[nodiscard]] cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// A place in a stream, empty until make(). Before the first record() it has happened.
class DeviceEvent {
 public:
  DeviceEvent() = default;
  ~DeviceEvent() {
    if (event_ != nullptr) (void)cudaEventDestroy(event_);
  }
  DeviceEvent(const DeviceEvent&) = delete;
  DeviceEvent& operator=(const DeviceEvent&) = delete;

  /// `timed`: for seconds_since().
  Status make(bool timed = false) {
    const unsigned flags = timed ? cudaEventDefault : cudaEventDisableTiming;
    return cuda_status(cudaEventCreateWithFlags(&event_, flags), "making an event");
  }
  /// Behind what the stream has to do already.
  Status record(const DeviceStream& stream) {
    return cuda_status(cudaEventRecord(event_, stream.get()), "marking a place in a stream");
  }
  /// What the stream is given from now on comes after it.
  Status hold_back(const DeviceStream& stream) const {
    return cuda_status(cudaStreamWaitEvent(stream.get(), event_, 0), "letting a stream wait");
  }
  Status wait() const { return cuda_status(cudaEventSynchronize(event_), "waiting for a stream"); }
  /// Between two that have happened, by the device's clock.
  Result<double> seconds_since(const DeviceEvent& earlier) const {
    float milliseconds = 0;
    NANDUTI_RETURN_IF_ERROR(
        cuda_status(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), "measuring time"));
    return static_cast<double>(milliseconds) / 1000;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace nanduti
