// A worker's evaluations: parts of the test set at a cut, whose parameters are fetched once for all of them.
#include <algorithm>
#include <cstring>

#include "worker/client/client_core.h"

namespace nanduti {

void ClientCore::handle(ProtocolTime, const CutEvaluated& event) {
  if (!job_ || job_->id != event.job) return;
  job_->evaluating.reset();
  drop_unneeded_cuts();
  job_->status.evaluation_seconds += event.seconds;
  tell_status();  // cuts that follow are to know its time
  tell_coordinator(EvaluationDone{event.job, event.lease, event.correct, event.total, event.loss_sum});
}

void ClientCore::on_evaluation_lease(const EvaluationLease& lease) {
  Job& job = *job_;
  const auto is_same = [&](const EvaluationLease& other) { return other.lease == lease.lease; };
  if (job.evaluating && is_same(*job.evaluating)) return;
  if (std::any_of(job.evaluations.begin(), job.evaluations.end(), is_same)) return;
  job.evaluations.push_back(lease);
  const auto [cut, is_new] = job.cuts.try_emplace(lease.cut);
  if (!is_new) return;
  for (const auto& [peer, shard] : job.shards) {
    cut->second.missing.insert(shard);
    // A shard gives nothing to who has not subscribed; then it is asked in on_subscribed().
    if (job.links.at(shard.value()).subscribed)
      actions_.push_back(SendMessage{peer, kControl, FetchCut{job.id, lease.cut}});
  }
  if (job.cuts.size() <= kCutsMax) return;
  const CutId oldest = job.cuts.begin()->first;
  std::erase_if(job.evaluations, [&](const EvaluationLease& e) { return e.cut == oldest; });
  job.cuts.erase(oldest);
}

void ClientCore::on_cut_values(ShardIndex shard, const CutValues& values) {
  Job& job = *job_;
  const ShardPlace& place = job.places.at(shard.value());
  if (values.payload.size() != (place.end - place.begin) * sizeof(float))
    return give_up(fmt::format("shard {} sent a cut of {} bytes for {} parameters", shard,
                               values.payload.size(), place.end - place.begin));
  const auto cut = job.cuts.find(values.cut);
  if (cut == job.cuts.end() || cut->second.missing.erase(shard) == 0) return;
  std::shared_ptr<std::vector<float>>& parameters = cut->second.parameters;
  if (!parameters) parameters = std::make_shared<std::vector<float>>(job.loaded->parameters);
  if (!values.payload.empty())
    std::memcpy(parameters->data() + place.begin, values.payload.data(), values.payload.size());
}

void ClientCore::drop_unneeded_cuts() {
  Job& job = *job_;
  std::erase_if(job.cuts, [&](const auto& cut) {
    const auto needs = [&](const EvaluationLease& e) { return e.cut == cut.first; };
    if (job.evaluating && needs(*job.evaluating)) return false;
    return std::none_of(job.evaluations.begin(), job.evaluations.end(), needs);
  });
}

void ClientCore::begin_evaluation() {
  Job& job = *job_;
  if (job.evaluating || job.evaluations.empty()) return;
  const EvaluationLease next = job.evaluations.front();
  const Cut& cut = job.cuts.at(next.cut);
  if (!cut.missing.empty()) return;
  job.evaluating = next;
  job.evaluations.pop_front();
  actions_.push_back(EvaluateCut{job.id, next.lease, next.begin, next.end, cut.parameters});
}

}  // namespace nanduti
