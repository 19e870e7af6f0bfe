// Goal: run.json is JSON that says what the record says. Method: golden text, and reading it back.
#include "server/storage/run_record.h"

#include <limits>

#include <boost/json.hpp>

#include "test/support/catch.h"

namespace nanduti {
namespace {

RunRecord example() {
  RunRecord record;
  record.job = JobId(7);
  record.name = "fashion-lenet";
  record.job_text = "name: \"x\"\nmodel: {preset: lenet}\n";
  record.state = "done";
  record.target = 0.88;
  record.accuracy = 0.89;
  record.target_met = true;
  record.program_version = "0.1.0";
  record.library_versions = {{"oneDNN", "2.7.2"}, {"libzmq", "4.3.4"}};
  record.server_hardware = "2 x Some CPU";
  record.workers = {{"asuncion-1", "asuncion", "cpu (oneDNN)", "2 x Other CPU"}};
  record.seed = ~std::uint64_t{0};
  record.parameter_count = 431080;
  record.started = "2024-05-17T12:00:00Z";
  record.ended = "2024-05-17T12:01:40Z";
  record.training_seconds = 93.25;
  record.samples = 60000;
  record.repeated_samples = 128;
  record.stall_fraction = 0.5;
  record.bytes_up = 1000;
  record.bytes_down = 2000;
  record.pipeline = {{"utilisation", 0.5}, {"age_p99", {}}};
  record.epochs = {{1, 0.89, 0.3, 0.1, 18.5, 60000, 1.5}};
  record.evaluations = {{20032, 0.75, 0.5, 6.25, 0.5}};
  record.evaluations_skipped = 2;
  record.tunings = {{12, 3.5, {}, 4, "a whim", "staleness: {}"}};
  return record;
}

TEST_CASE("run.json of a small run is this text") {
  CHECK(to_json(example()) == R"json({
  "job": 7,
  "name": "fashion-lenet",
  "state": "done",
  "reason": "",
  "target": 0.88,
  "accuracy": 0.89,
  "target_met": true,
  "seed": 18446744073709551615,
  "parameters": 431080,
  "started": "2024-05-17T12:00:00Z",
  "ended": "2024-05-17T12:01:40Z",
  "training_seconds": 93.25,
  "samples": 60000,
  "repeated_samples": 128,
  "stall_fraction": 0.5,
  "bytes_up": 1000,
  "bytes_down": 2000,
  "pipeline": {
    "utilisation": 0.5,
    "age_p99": null
  },
  "epochs": [
    {
      "epoch": 1,
      "accuracy": 0.89,
      "test_loss": 0.3,
      "loss": 0.1,
      "seconds": 18.5,
      "evaluation_seconds": 1.5,
      "samples": 60000
    }
  ],
  "evaluations": [
    {
      "samples": 20032,
      "accuracy": 0.75,
      "test_loss": 0.5,
      "seconds": 6.25,
      "evaluation_seconds": 0.5
    }
  ],
  "evaluations_skipped": 2,
  "tunings": [
    {
      "from_round": 12,
      "seconds": 3.5,
      "bound": null,
      "local_steps": 4,
      "in_force": true,
      "why": "a whim",
      "settings": "staleness: {}"
    }
  ],
  "program_version": "0.1.0",
  "libraries": {
    "libzmq": "4.3.4",
    "oneDNN": "2.7.2"
  },
  "server_hardware": "2 x Some CPU",
  "workers": [
    {
      "name": "asuncion-1",
      "site": "asuncion",
      "device": "cpu (oneDNN)",
      "hardware": "2 x Other CPU"
    }
  ],
  "job_yaml": "name: \"x\"\nmodel: {preset: lenet}\n"
}
)json");
}

TEST_CASE("run.json reads back to the same text and numbers, whatever they are") {
  RunRecord record = example();
  record.name = "\u00D1andut\u00ED \"\\\n\x01";
  record.training_seconds = 1.0 / 3.0;
  record.epochs[0].loss = 1e-300;
  record.epochs[0].accuracy.reset();
  record.epochs.push_back({2, 1.0, 0.0, std::numeric_limits<double>::infinity(), 1e22, ~std::uint64_t{0}});
  record.target_met.reset();
  record.workers.clear();
  const boost::json::value root = boost::json::parse(to_json(record));
  CHECK(root.at("name").as_string() == record.name.c_str());
  CHECK(root.at("training_seconds").as_double() == 1.0 / 3.0);
  CHECK(root.at("seed").as_uint64() == record.seed);
  CHECK(root.at("target_met").is_null());
  CHECK(root.at("workers").as_array().empty());
  CHECK(root.at("job_yaml").as_string() == record.job_text.c_str());
  const auto& epochs = root.at("epochs").as_array();
  CHECK(epochs.at(0).at("loss").as_double() == 1e-300);
  CHECK(epochs.at(0).at("accuracy").is_null());
  CHECK(epochs.at(1).at("loss").is_null());
  CHECK(epochs.at(1).at("seconds").to_number<double>() == 1e22);
  CHECK(epochs.at(1).at("samples").as_uint64() == ~std::uint64_t{0});
}

}  // namespace
}  // namespace nanduti
