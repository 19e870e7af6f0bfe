#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <dnnl.hpp>

/// oneDNN 2.x, seen from this folder only. Functions here throw dnnl::error; the backend catches it.
namespace nanduti::onednn {

/// Memories at fixed offsets of one flat float32 vector, whose address is given anew for each run.
class FlatViews {
 public:
  explicit FlatViews(dnnl::engine engine) : engine_(std::move(engine)) {}
  /// The memory of `desc`, a plain row-major format, that starts `offset` floats into the vector.
  dnnl::memory at(std::uint64_t offset, const dnnl::memory::desc& desc);
  /// Points all memories into `base`. oneDNN knows no const: programs only read parameters.
  void bind(const float* base);

 private:
  dnnl::engine engine_;
  std::vector<std::pair<std::uint64_t, dnnl::memory>> views_;
  const float* base_ = nullptr;
};

/// Primitives in the order they run, their arguments bound once. All share one scratchpad.
class Program {
 public:
  using Arguments = std::vector<std::pair<int, dnnl::memory>>;

  explicit Program(dnnl::engine engine) : engine_(std::move(engine)) {}

  /// `Primitive` is a dnnl primitive class; its description must have been made with attributes().
  template <class Primitive>
  void add(const typename Primitive::primitive_desc& desc, Arguments arguments) {
    append(Primitive(desc), desc.scratchpad_desc(), std::move(arguments));
  }
  /// `from` in the format `to`: itself if it has it, else a new memory and a step that fills it.
  dnnl::memory reordered(const dnnl::memory& from, const dnnl::memory::desc& to);
  /// A step that copies `from` into `to`, formats as they are.
  void reorder(const dnnl::memory& from, const dnnl::memory& to);

  [[nodiscard]] std::size_t scratchpad_bytes() const { return scratchpad_bytes_; }
  /// `scratchpad`: at least scratchpad_bytes(), aligned to 64 bytes; it must outlive the runs.
  void set_scratchpad(void* scratchpad);
  void run(const dnnl::stream& stream) const;

  /// What every primitive's description is made with.
  static dnnl::primitive_attr attributes();

 private:
  struct Step {
    dnnl::primitive primitive;
    Arguments arguments;  // keeps the memories alive that `bound` names
    std::vector<dnnl_exec_arg_t> bound;
  };
  void append(dnnl::primitive primitive, const dnnl::memory::desc& scratchpad, Arguments arguments);

  dnnl::engine engine_;
  std::vector<Step> steps_;
  std::vector<dnnl::memory> scratchpads_;
  std::size_t scratchpad_bytes_ = 0;
};

}  // namespace nanduti::onednn
