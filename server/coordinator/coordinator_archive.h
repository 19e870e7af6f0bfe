#pragma once

#include "common/protocol/message_archive.h"
#include "server/coordinator/coordinator_core.h"

/// Fields of the coordinator's plain structs, as its log holds them (archive.h).
namespace nanduti {

template <class Archive>
void archive(Archive& a, StalenessPlan& m) {
  a(m.bound, m.auto_bound, m.bound_max, m.local_steps, m.auto_local_steps, m.local_steps_max);
}
template <class Archive>
void archive(Archive& a, JobPlan& m) {
  a(m.id, m.key, m.name, m.spec_text, m.epochs, m.batch_size, m.staleness, m.evaluate_every,
    m.workers_to_start, m.target_accuracy, m.deterministic);
}
template <class Archive>
void archive(Archive& a, Tuning& m) {
  a(m.number, m.staleness, m.settings, m.why, m.from_round, m.in_force, m.in_force_from, m.seconds);
}
template <class Archive>
void archive(Archive& a, TestFigures& m) {
  a(m.correct, m.total, m.loss_sum);
}
template <class Archive>
void archive(Archive& a, EpochFigures& m) {
  archive(a, static_cast<TestFigures&>(m));
  a(m.epoch);
}
template <class Archive>
void archive(Archive& a, EvaluationFigures& m) {
  archive(a, static_cast<TestFigures&>(m));
  a(m.samples, m.seconds, m.evaluation_seconds);
}
template <class Archive>
void archive(Archive& a, ParticipantReport& m) {
  a(m.name, m.site, m.device, m.hardware);
}
template <class Archive>
void archive(Archive& a, CoordinatorCore::JobView& m) {
  a(m.plan, m.state, m.reason, m.samples, m.samples_total, m.repeated_samples, m.figures, m.evaluations,
    m.evaluations_skipped, m.progress, m.tunings, m.warnings, m.participants, m.started);
}

}  // namespace nanduti
