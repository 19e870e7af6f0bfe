# shellcheck shell=bash
# shellcheck disable=SC2154  # server and http_status are set by http.sh and its caller
# Follows one job: a live line on a terminal, plain lines in a pipe. Wants common.sh and http.sh.

follow_period_s=5      # between plain lines
follow_last=           # the job as last heard of, one JSON object
follow_line_open=false # a live line is on the screen, without its newline

# Called with every piece of news and while there is none. A script may define its own, to look after its daemons.
follow_check() { :; }

# 1234567 -> 1.2M
follow_human() {
  local value=$1 unit tenths=
  for unit in B K M G T; do
    if ((value < 1000)) || [[ $unit == T ]]; then break; fi
    tenths=.$((value % 1000 / 100))
    value=$((value / 1000))
  done
  ((value < 10)) || tenths=
  echo "$value$tenths$unit"
}

# 75 -> 1:15
follow_clock() {
  [[ $1 == - ]] && echo "-" && return
  if (($1 >= 3600)); then
    printf '%d:%02d:%02d\n' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60))
  else
    printf '%d:%02d\n' $(($1 / 60)) $(($1 % 60))
  fi
}

# follow_bar PERCENT WIDTH
follow_bar() {
  local full=$(($1 * $2 / 100)) bar
  ((full > $2)) && full=$2
  printf -v bar '%*s' "$full" ''
  bar=${bar// /#}
  printf '%-*s' "$2" "$bar" | tr ' ' .
}

follow_close_line() {
  if $follow_line_open; then
    echo
    follow_line_open=false
  fi
}

# follow_print TEXT: a line that stays.
follow_print() {
  follow_close_line
  printf '%s\n' "$1"
}

# follow_draw TEXT PERCENT FIGURES: the live line, with as much of a bar as the terminal's width leaves, and the
# percentage where there is room for it as well.
follow_draw() {
  local width room percent=" $2%" line
  { width=$(stty size <&5 2> /dev/null) || true; } 5>&1
  width=${width#* }
  [[ $width =~ ^[1-9][0-9]*$ ]] || width=80
  room=$((width - 1 - ${#1} - ${#3} - 4))
  if ((room < 12)); then percent=; fi
  room=$((room - ${#percent}))
  ((room <= 20)) || room=20
  ((room >= 3)) || room=3
  line="$1 [$(follow_bar "$2" "$room")]$percent $3"
  printf '\r%s\033[K' "${line:0:width-1}"
  follow_line_open=true
}

# One JSON object per event becomes the object and its fields, apart by \x1f, empty ones as "-".
# shellcheck disable=SC2016  # jq variables
follow_fields='
  def shown: if . == null then "-" else tostring | gsub("[\n\r\u001f]"; " ") end;
  def whole: if . == null then "-" else floor | tostring end;
  (.samples_total // 0) as $total
  | [ tojson, .state, (.epoch | whole), (.epochs | whole),
      (if $total > 0 then (100 * (.samples // 0) / $total | floor) else 0 end),
      ((.samples_per_s // 0) | floor), (.loss | shown), (.staleness | shown),
      ((.bytes_up // 0) | floor), ((.bytes_down // 0) | floor), ((.stall_fraction // 0) * 100 | round),
      (.eta_s | whole), (.waiting_for | shown),
      ([(.figures // [])[] | select(.accuracy != null or .loss != null)
        | "\(.epoch),\(.accuracy | shown),\(.loss | shown)"] | join(" ")),
      ([(.evaluations // [])[] | "\(.samples),\(.accuracy)"] | join(" ")) ]
  | map(tostring) | join("\u001f")'

# decimals DIGITS TEXT: numbers rounded, anything else as it is.
follow_decimals() {
  if [[ $2 =~ ^[0-9] ]]; then LC_ALL=C printf "%.$1f" "$2"; else printf '%s' "$2"; fi
}

# follow_epochs EPOCHS "EPOCH,ACCURACY,LOSS ...": a line for each epoch that has its figures now.
follow_epochs() {
  local item epoch accuracy loss
  for item in $2; do
    IFS=, read -r epoch accuracy loss <<< "$item"
    ((epoch > follow_epoch)) || continue
    # Without a test set there is no accuracy; with one it comes a little after the epoch.
    [[ $accuracy != - ]] || continue
    follow_print "epoch $epoch/$1: accuracy $(follow_decimals 4 "$accuracy"), loss $(follow_decimals 4 "$loss")"
    follow_epoch=$epoch
  done
}

# follow_evaluations "SAMPLES,ACCURACY ...": a line for each evaluation within the epochs, as it comes.
follow_evaluations() {
  local item
  for item in $1; do
    ((${item%,*} > follow_samples)) || continue
    follow_samples=${item%,*}
    follow_print "after $follow_samples samples: accuracy $(follow_decimals 4 "${item#*,}")"
  done
}

# follow_stream ID: shows the events of one connection. Returns when it ends.
follow_stream() {
  local id=$1 json state epoch epochs percent rate loss staleness up down stall eta waiting epochs_done
  local evaluations_done figures short text stream
  exec {stream}< <(
    curl_server -N --speed-limit 1 --speed-time 30 -H 'Accept: text/event-stream' "$server/v1/jobs/$id/events" \
      2> /dev/null | sed -un 's/^data: *//p' | jq --unbuffered -r "$follow_fields" 2> /dev/null
  )
  while IFS=$'\x1f' read -r -u "$stream" json state epoch epochs percent rate loss staleness up down stall eta \
    waiting epochs_done evaluations_done; do
    follow_last=$json
    follow_check
    short="$rate/s loss $(follow_decimals 3 "$loss") stale $(follow_decimals 1 "$staleness")"
    short+=" up $(follow_human "$up") down $(follow_human "$down") stall $stall% ETA $(follow_clock "$eta")"
    figures="$rate samples/s  loss $(follow_decimals 4 "$loss")  staleness $(follow_decimals 1 "$staleness")"
    figures+="  up $(follow_human "$up")  down $(follow_human "$down")  stall $stall%  ETA $(follow_clock "$eta")"
    follow_evaluations "$evaluations_done"
    follow_epochs "$epochs" "$epochs_done"
    case $state in
      done | failed | cancelled) break ;;
    esac
    text="epoch $epoch/$epochs"
    [[ $state == running ]] || text=$state
    [[ $waiting == - ]] || text+=" (waiting for $waiting)"
    if [[ -t 1 ]]; then
      follow_draw "$text" "$percent" "$short"
    elif ((SECONDS >= follow_next)); then
      follow_print "$text $percent%  $figures"
      follow_next=$((SECONDS + follow_period_s))
    fi
  done
  exec {stream}<&-
}

follow_is_over() {
  [[ -n $follow_last ]] && jq -e '.state | IN("done", "failed", "cancelled")' <<< "$follow_last" > /dev/null
}

# follow_job ID: shows the job on stdout until it is over, through lost connections and restarts of the server.
# Returns 0 if it met its target or has none, 1 if it missed it, 2 if it failed, 3 if it was cancelled.
follow_job() {
  local id=$1 lost=false
  follow_epoch=0   # the last one whose figures are shown
  follow_samples=0 # and of evaluations
  follow_next=0
  job_api GET "$id"
  while true; do
    follow_stream "$id"
    follow_is_over && break
    # The stream has broken off. Ask until the server answers again.
    while true; do
      follow_check
      sleep 1
      if http_call GET "/v1/jobs/$id" && [[ $http_status == 200 || $http_status == 404 ]]; then break; fi
      $lost || follow_print "no news from $server: waiting for it"
      lost=true
    done
    if [[ $http_status == 404 ]]; then
      follow_print "the server at $server does not know job $id any more"
      return 2
    fi
    $lost && follow_print "$server answers again"
    lost=false
  done
  follow_outcome "$id"
}

# follow_outcome ID: the last words, and the exit status that belongs to them.
follow_outcome() {
  local id=$1 state reason met accuracy target model
  IFS=$'\x1f' read -r state reason met accuracy target model < <(jq -r '
    def shown: if . == null then "-" else tostring | gsub("[\n\r\u001f]"; " ") end;
    [.state, .reason, .target_met, .accuracy, .target, .model] | map(shown) | join("\u001f")' <<< "$follow_last")
  [[ $reason == "" ]] && reason=-
  local warning
  while read -r warning; do
    follow_print "job $id: warning: $warning"
  done < <(jq -r '(.warnings // [])[]' <<< "$follow_last")
  case $state in
    failed)
      follow_print "job $id failed: $reason"
      return 2
      ;;
    cancelled)
      [[ $reason == - ]] || reason=": $reason"
      follow_print "job $id was cancelled${reason#-}"
      return 3
      ;;
  esac
  local text="job $id is done"
  [[ $accuracy == - ]] || text+=": accuracy $(follow_decimals 4 "$accuracy")"
  if [[ $met == true ]]; then text+=", target $target met"; fi
  if [[ $met == false ]]; then text+=", target $target missed"; fi
  [[ $model == - ]] || text+="; model $model"
  follow_print "$text"
  [[ $met != false ]]
}

# follow_or_leave ID: follow_job for a human, whose Ctrl-C leaves the job running.
follow_or_leave() {
  local id=$1
  # shellcheck disable=SC2064 # the id of now
  trap "follow_close_line; note 'job $id keeps running; follow it again with scripts/job.sh follow $id --server $server'
    exit 130" INT
  follow_job "$id"
}
