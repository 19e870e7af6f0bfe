# What scripts/experiment.sh makes of its runs: figures, a table in Markdown, a plot in SVG.

def metrics: ["accuracy", "utilisation", "samples_per_s", "seconds_to_target", "round_bytes_up", "round_bytes_down"];
# What rounds and versions took: without whole shadows, cuts, catch-up and last flushes, which are float32 in every job.
def with_round_bytes:
  .round_bytes_up = (if .exact_bytes_up then .bytes_up - .exact_bytes_up else null end)
  | .round_bytes_down = (if .exact_bytes_down then .bytes_down - .exact_bytes_down else null end);
def mean: if length == 0 then null else add / length end;

# Student's t for a two-sided 95 % interval of a mean of $count values.
def student($count):
  [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
   2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]
  | if $count - 2 < length then .[$count - 2] else 1.96 end;

# Numbers -> their count, mean, and half the width of its 95 % interval; null where there are too few.
def figure:
  length as $count | mean as $mean
  | {count: $count, mean: $mean,
     half: (if $count < 2 then null
            else student($count) * ((map(. - $mean | . * .) | add) / ($count - 1) | sqrt) / ($count | sqrt) end)};

# Records of runs -> the result. $names: the arms in their order; the others are compared with the first.
def result($experiment; $names):
  map(if .summary != null then .summary |= with_round_bytes else . end) as $records
  | def of($arm): $records | map(select(.arm == $arm));
    def good($arm): of($arm) | map(select(.summary != null));
    (good($names[0]) | map({key: (.seed | tostring), value: .summary}) | from_entries) as $first
  | {experiment: $experiment,
     samples: ([$records[].summary.samples | values] | unique),
     arms: [$names[] | . as $arm | good(.) as $good
       | {arm: $arm, profile: (of($arm)[0].profile), runs: ($good | length),
          failed: (of($arm) | map(select(.summary == null) | {seed, reason})),
          targets_met: ($good | map(select(.summary.seconds_to_target != null)) | length)}
         + ([metrics[] | . as $metric
             | {key: ., value: {
                 mean: ($good | map(.summary[$metric] | values) | figure),
                 difference: (if $arm == $names[0] then null else
                   [$good[] | .summary[$metric] as $value | $first[.seed | tostring][$metric] as $other
                    | select($value != null and $other != null) | $value - $other] | figure end)}}] | from_entries)]};

def digits($count): if . == null then "-" else
  pow(10; $count) as $scale | (. * $scale | round) as $whole | ($whole | fabs | tostring) as $text
  | (if $count == 0 then $text else
      ("0" * ([$count + 1 - ($text | length), 0] | max) // "") + $text | "\(.[:-$count]).\(.[-$count:])" end)
  | if $whole < 0 then "-" + . else . end end;
def signed($count): digits($count) | if startswith("-") then . else "+" + . end;
# The mean, for all but the first arm with the difference from the first and its interval.
def cell($digits):
  (.mean.mean | digits($digits)) +
  (.difference | if . == null or .mean == null then "" else
    " (\(.mean | signed($digits))" + (if .half == null then "" else " ± \(.half | digits($digits))" end) + ")" end);

# Megabytes; for all but the first arm also how many times fewer they are than that one's.
def bytes_cell($first):
  .mean.mean as $mean
  | if $mean == null then "-" else
      ($mean / 1e6 | digits(1)) +
      (if .difference == null or $first == null or $mean == 0 then "" else " (1/\($first / $mean | digits(1)))" end) end;

def table:
  .arms as $arms
  | "# \(.experiment)\n",
    "In brackets: the difference from \($arms[0].arm), mean and 95 % interval over paired seeds; for bytes the ratio.\n",
    "| arm | link | runs | accuracy | utilisation | samples/s | seconds to target | MB up in rounds | MB down |",
    "|---|---|---|---|---|---|---|---|---|",
    ($arms[]
     | "| \(.arm) | \(.profile) | \(.runs)\(if .failed == [] then "" else ", \(.failed | length) FAILED" end) | " +
       "\(.accuracy | cell(4)) | \(.utilisation | cell(3)) | \(.samples_per_s | cell(0)) | " +
       "\(.seconds_to_target | cell(1))\(if .runs > .targets_met then ", missed \(.runs - .targets_met) of \(.runs)" else "" end) | " +
       "\(.round_bytes_up | bytes_cell($arms[0].round_bytes_up.mean.mean)) | " +
       "\(.round_bytes_down | bytes_cell($arms[0].round_bytes_down.mean.mean)) |"),
    ($arms[] | .arm as $arm | .failed[] | "\nFAILED: \($arm), seed \(.seed): \(.reason)"),
    (if .samples | length > 1 then "\nThe runs had unequal numbers of samples: \(.samples | map(tostring) | join(", "))" else empty end);

# ---- the plot ----

# Steps of 1, 2 or 5 and zeros, four or so between $low and $high.
def ticks($low; $high):
  (($high - $low) / 4) as $raw | pow(10; $raw | log10 | floor) as $unit
  | ([1, 2, 5, 10] | map(. * $unit) | map(select(. >= $raw))[0]) as $step
  | [range($low / $step | ceil; ($high / $step | floor) + 1) * $step];
def decades($low; $high):
  [range($low | log10 | floor; $high | log10 | ceil) as $power | (1, 2, 5) * pow(10; $power) | select(. >= $low and . <= $high)];
def short: . * 1e6 | round / 1e6 | tostring;

# {title, x, y, log, categories, series: [{name, line, points: [{mean, low, high} or null for each category]}]} -> SVG.
def plot:
  . as $p | 720 as $width | 420 as $height
  | {left: 80, right: ($width - (if $p.series | length > 1 then 230 else 30 end)), top: 50, bottom: ($height - 70)} as $box
  | ["#1b6ca8", "#c8553d", "#3a7d44", "#7a4fa3", "#8a6d1d", "#555555"] as $colours
  | [$p.series[].points[] | values | .low, .high] as $values
  | (if $values == [] then [0, 1] else [($values | min), ($values | max)] end) as [$least, $most]
  | (if $p.log then [$least / 1.3, $most * 1.3] else
      ([($most - $least) * 0.1, ($most | fabs) * 0.001, 1e-6] | max) as $room | [$least - $room, $most + $room] end)
    as [$low, $high]
  | def place: if $p.log then log10 else . end;
    def y: ($box.bottom - ((. | place) - ($low | place)) / (($high | place) - ($low | place)) * ($box.bottom - $box.top)) * 10 | round / 10;
    def x: ($box.left + (. + 0.5) * ($box.right - $box.left) / ($p.categories | length)) * 10 | round / 10;
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \($width) \($height)\" font-family=\"sans-serif\" font-size=\"13\">",
    "<rect width=\"\($width)\" height=\"\($height)\" fill=\"white\"/>",
    "<text x=\"\($box.left)\" y=\"26\" font-size=\"16\">\($p.title | @html)</text>",
    "<text x=\"\(($box.left + $box.right) / 2)\" y=\"\($height - 20)\" text-anchor=\"middle\">\($p.x | @html)</text>",
    "<text transform=\"translate(20 \(($box.top + $box.bottom) / 2)) rotate(-90)\" text-anchor=\"middle\">\($p.y | @html)</text>",
    ((if $p.log then decades($low; $high) else ticks($low; $high) end)[]
     | "<line x1=\"\($box.left)\" x2=\"\($box.right)\" y1=\"\(y)\" y2=\"\(y)\" stroke=\"#dddddd\"/>",
       "<text x=\"\($box.left - 8)\" y=\"\(y + 4)\" text-anchor=\"end\">\(short)</text>"),
    ($p.categories | to_entries[]
     | "<text x=\"\(.key | x)\" y=\"\($box.bottom + 22)\" text-anchor=\"middle\">\(.value | tostring | @html)</text>"),
    ($p.series | to_entries[] | .value as $series | $colours[.key % ($colours | length)] as $colour
     | [$series.points | to_entries[] | select(.value != null)] as $points
     | (if $series.line then
          "<polyline fill=\"none\" stroke=\"\($colour)\" stroke-width=\"2\" points=\"\([$points[] | "\(.key | x),\(.value.mean | y)"] | join(" "))\"/>"
        else empty end),
       ($points[]
        | "<line x1=\"\(.key | x)\" x2=\"\(.key | x)\" y1=\"\(.value.low | y)\" y2=\"\(.value.high | y)\" stroke=\"\($colour)\" stroke-width=\"2\"/>",
          "<circle cx=\"\(.key | x)\" cy=\"\(.value.mean | y)\" r=\"\(if $series.line then 3 else 5 end)\" fill=\"\(if $series.line then $colour else "none" end)\" stroke=\"\($colour)\" stroke-width=\"2\"/>"),
       (if $p.series | length > 1 then
          "<text x=\"\($box.right + 14)\" y=\"\($box.top + 14 + .key * 20)\" fill=\"\($colour)\">\(if $series.line then "— " else "○ " end)\($series.name | @html)</text>"
        else empty end)),
    "</svg>";

def accuracy_plot:
  {title: "\(.experiment): accuracy after equal samples", x: "arm", y: "accuracy (mean, 95 % interval)", log: false,
   categories: [.arms[].arm],
   series: [{name: "accuracy", line: false, points: [.arms[].accuracy.mean
     | if .mean == null then null else {mean, low: (.mean - (.half // 0)), high: (.mean + (.half // 0))} end]}]};

# ---- the quadratic ----

# DESIGN section 2; null: it says nothing.
def design_caps: {
  "plain": [2, 1, 0.62, 0.35, 0.185, 0.095],
  "own-work": [null, 1, 1, 1, 1, 1],
  "own-work-momentum": [3.8, null, null, 0.32, 0.099, 0.034]};
def quadratic_names: {
  "plain": "plain", "own-work": "own work visible", "own-work-momentum": "and momentum 0.9"};

def quadratic_result:
  . as $caps
  | {experiment: "quadratic", delays: ([$caps[].delay] | unique),
     arms: [design_caps | to_entries[] | .key as $arm
       | {arm: $arm, simulated: [$caps[] | select(.arm == $arm)] | sort_by(.delay) | map(.cap), design: .value}]};

def quadratic_table:
  .arms as $arms
  | "# quadratic\n",
    "The largest stable learning rate * curvature under delay tau: simulated, and DESIGN section 2's figure.\n",
    "| tau | \([$arms[] | quadratic_names[.arm] | "\(.) | DESIGN"] | join(" | ")) |",
    "|---\([$arms[] | "|---|---"] | join(""))|",
    (.delays | to_entries[] | . as $delay
     | "| \(.value) | \([$arms[] | (.simulated[$delay.key] | digits(4)), (.design[$delay.key] // "-" | tostring)] | join(" | ")) |");

def quadratic_plot:
  def points: map(if . == null then null else {mean: ., low: ., high: .} end);
  {title: "what a quadratic bears under delay", x: "delay tau, rounds", y: "largest stable learning rate * curvature", log: true,
   categories: .delays,
   series: ([.arms[] | {name: quadratic_names[.arm], line: true, points: (.simulated | points)}] +
            [.arms[] | {name: "DESIGN: \(quadratic_names[.arm])", line: false, points: (.design | points)}])};
