# What a run.json says in short: the times of its evaluations, and when the target was reached.

# Its evaluations within epochs and at their ends -> [{seconds, accuracy}] in order. The time in which workers evaluated is left
# out: it is neither stall nor training time.
def evaluations:
  [(.epochs, .evaluations // []) | .[]? | select(.accuracy != null)
   | {seconds: (.seconds - (.evaluation_seconds // 0)), accuracy}] | sort_by(.seconds);

# When the accuracy was first there, on a straight line between the two evaluations around that; null: at none. If the first one
# has it, that one's time.
def seconds_to_target:
  .target as $target | evaluations as $all
  | [$all | to_entries[] | select($target != null and .value.accuracy >= $target)][0]
  | if . == null then null elif .key == 0 then .value.seconds else
      $all[.key - 1] as $before
      | $before.seconds + (.value.seconds - $before.seconds) *
        ($target - $before.accuracy) / (.value.accuracy - $before.accuracy) end;

# From the first samples that were lent to the last one, without the time in which workers evaluated: not the start, in which
# workers connect and the model comes.
def pure_training_seconds:
  (.training_seconds // 0) - (.pipeline.start_seconds // 0) - (.epochs[-1]?.evaluation_seconds // 0);
