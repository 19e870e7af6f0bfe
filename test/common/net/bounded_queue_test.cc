// Goal: a queue holds at most so many entries and bytes, and says what it dropped. Method: by hand.
#include "common/net/bounded_queue.h"

#include "test/support/catch.h"

using namespace nanduti;
using Queue = BoundedQueue<int>;

TEST_CASE("entries beyond the number or the bytes are dropped and counted, the others keep their order") {
  Queue queue({3, 100});
  CHECK(queue.push(1, 60) == Queue::Pushed::kFirst);
  CHECK(queue.push(2, 41) == Queue::Pushed::kDropped);
  CHECK(queue.push(3, 40) == Queue::Pushed::kMore);
  CHECK(queue.push(4, 1) == Queue::Pushed::kDropped);
  CHECK(queue.push(5, 0) == Queue::Pushed::kMore);
  CHECK(queue.push(6, 0) == Queue::Pushed::kDropped);
  CHECK(queue.counters().dropped == 3);
  CHECK(queue.counters().dropped_bytes == 42);
  CHECK(queue.take() == std::vector{1, 3, 5});
  CHECK(queue.take().empty());
}

TEST_CASE("a queue that was emptied has room again, but not for what is larger than itself") {
  Queue queue({3, 100});
  CHECK(queue.push(1, 101) == Queue::Pushed::kDropped);
  CHECK(queue.push(2, 100) == Queue::Pushed::kFirst);
  CHECK(queue.take() == std::vector{2});
  CHECK(queue.push(3, 100) == Queue::Pushed::kFirst);
}

TEST_CASE("what must not be lost is never dropped") {
  Queue queue({1, 10});
  CHECK(queue.push(1, 10) == Queue::Pushed::kFirst);
  CHECK(queue.push_always(2) == Queue::Pushed::kMore);
  CHECK(queue.push(3, 0) == Queue::Pushed::kDropped);
  CHECK(queue.push_always(4) == Queue::Pushed::kMore);
  CHECK(queue.take() == std::vector{1, 2, 4});
  CHECK(queue.push_always(5) == Queue::Pushed::kFirst);
}
