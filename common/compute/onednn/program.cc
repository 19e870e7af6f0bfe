#include "common/compute/onednn/program.h"

#include <algorithm>

namespace nanduti::onednn {

dnnl::memory FlatViews::at(std::uint64_t offset, const dnnl::memory::desc& desc) {
  views_.emplace_back(offset, dnnl::memory(desc, engine_, DNNL_MEMORY_NONE));
  base_ = nullptr;
  return views_.back().second;
}

void FlatViews::bind(const float* base) {
  if (base == base_) return;
  for (auto& [offset, memory] : views_) memory.set_data_handle(const_cast<float*>(base + offset));
  base_ = base;
}

dnnl::memory Program::reordered(const dnnl::memory& from, const dnnl::memory::desc& to) {
  if (from.get_desc() == to) return from;
  dnnl::memory result(to, engine_);
  reorder(from, result);
  return result;
}

void Program::reorder(const dnnl::memory& from, const dnnl::memory& to) {
  const dnnl::reorder::primitive_desc desc(engine_, from.get_desc(), engine_, to.get_desc(), attributes());
  append(dnnl::reorder(desc), desc.scratchpad_desc(), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

void Program::set_scratchpad(void* scratchpad) {
  for (dnnl::memory& memory : scratchpads_) memory.set_data_handle(scratchpad);
}

void Program::run(const dnnl::stream& stream) const {
  for (const Step& step : steps_) {
    // The C call: the C++ one copies its arguments into a new container each time.
    dnnl::error::wrap_c_api(dnnl_primitive_execute(step.primitive.get(), stream.get(),
                                                   static_cast<int>(step.bound.size()), step.bound.data()),
                            "a primitive failed");
  }
}

dnnl::primitive_attr Program::attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void Program::append(dnnl::primitive primitive, const dnnl::memory::desc& scratchpad, Arguments arguments) {
  if (scratchpad.get_size() > 0) {
    scratchpads_.push_back(dnnl::memory(scratchpad, engine_, DNNL_MEMORY_NONE));
    arguments.emplace_back(DNNL_ARG_SCRATCHPAD, scratchpads_.back());
    scratchpad_bytes_ = std::max(scratchpad_bytes_, scratchpad.get_size());
  }
  Step step{std::move(primitive), std::move(arguments), {}};
  for (const auto& [name, memory] : step.arguments) step.bound.push_back({name, memory.get()});
  steps_.push_back(std::move(step));
}

}  // namespace nanduti::onednn
