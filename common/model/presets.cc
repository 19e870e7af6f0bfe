#include "common/model/resolved_model.h"

namespace nanduti {

Result<std::vector<LayerSpec>> preset_layers(std::string_view name) {
  if (name == "logistic") return std::vector<LayerSpec>{DenseSpec{}};
  if (name == "mlp") {
    return std::vector<LayerSpec>{DenseSpec{256}, ReluSpec{}, DenseSpec{128}, ReluSpec{}, DenseSpec{}};
  }
  if (name == "lenet") {
    return std::vector<LayerSpec>{Conv2dSpec{.channels = 20, .kernel = 5},
                                  MaxPoolSpec{},
                                  Conv2dSpec{.channels = 50, .kernel = 5},
                                  MaxPoolSpec{},
                                  DenseSpec{500},
                                  ReluSpec{},
                                  DenseSpec{}};
  }
  return make_error(ErrorCode::kNotFound,
                    "no model preset is called \"{}\"; there are logistic, mlp and lenet", name);
}

}  // namespace nanduti
