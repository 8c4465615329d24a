# Healthy: dramatiq's processes without work.
import dramatiq
from dramatiq.brokers.stub import StubBroker

broker = StubBroker()
dramatiq.set_broker(broker)


@dramatiq.actor
def work(number):
    pass
