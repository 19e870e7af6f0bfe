#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/base/check.h"

namespace nanduti {

/// What kind of thing went wrong; the message says the rest.
enum class ErrorCode {
  kInvalidArgument,  ///< a value outside what is allowed: a config, a request, a message
  kNotFound,         ///< a file, job or peer that does not exist
  kCorrupt,          ///< bytes that do not hold what their format promises
  kUnavailable,      ///< not now: unreachable, not ready, port in use
  kExhausted,        ///< a named maximum is reached
  kIo,               ///< the operating system refused
  kRefused,          ///< understood and declined
  kCancelled,        ///< stopped by an operator
};

std::string_view to_string(ErrorCode code);

/// An error that a peer, file, config or device can cause: a code and a message for a person.
struct Error {
  ErrorCode code = ErrorCode::kInvalidArgument;
  std::string message;

  /// The same error with `context` and a colon in front.
  [[nodiscard]] Error within(std::string_view context) const {
    return {code, std::string(context) + ": " + message};
  }
};

/// A value or an Error. Asking for the one that is not there is a failed check.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: conversion is the point
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    NANDUTI_CHECK(ok(), "{}", error_text());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    NANDUTI_CHECK(ok(), "{}", error_text());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    NANDUTI_CHECK(ok(), "{}", error_text());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  [[nodiscard]] const Error& error() const {
    NANDUTI_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }

 private:
  [[nodiscard]] std::string error_text() const {
    return ok() ? std::string() : std::get_if<1>(&state_)->message;
  }

  std::variant<T, Error> state_;
};

/// Success, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT: conversion is the point

  [[nodiscard]] bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  [[nodiscard]] const Error& error() const {
    NANDUTI_CHECK(!ok_);
    return error_;
  }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

/// An Error whose message is formatted as fmt does.
template <class... Args>
Error make_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return {code, fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace nanduti

/// Returns the error of a Status or Result from the enclosing function, if there is one.
#define NANDUTI_RETURN_IF_ERROR(expression)                                                      \
  do {                                                                                           \
    if (auto nanduti_status = (expression); !nanduti_status.ok()) return nanduti_status.error(); \
  } while (false)
