"""Asks for URLs, one after the other, through a proxy: get.py <library> <proxy> <URL>…"""

import asyncio
import sys

library, proxy, *urls = sys.argv[1:]


def with_requests():
    import requests

    requests.packages.urllib3.disable_warnings()
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": proxy, "https": proxy}
        for url in urls:
            print(session.get(url, verify=False, timeout=30).text, end="")


def with_httpx():
    import httpx

    with httpx.Client(proxies=proxy, verify=False, trust_env=False, timeout=30) as client:
        for url in urls:
            print(client.get(url).text, end="")


def with_aiohttp():
    import aiohttp

    async def main():
        async with aiohttp.ClientSession() as session:
            for url in urls:
                async with session.get(url, proxy=proxy, ssl=False) as response:
                    print(await response.text(), end="")

    asyncio.run(main())


def with_scrapy():
    import scrapy
    from scrapy.crawler import CrawlerProcess

    class Spider(scrapy.Spider):
        name = "spider"

        def start_requests(self):
            yield self.of(0)

        def of(self, nth):
            return scrapy.Request(urls[nth], meta={"proxy": proxy}, cb_kwargs={"nth": nth}, dont_filter=True)

        def parse(self, response, nth):
            print(response.text, end="")
            if nth + 1 < len(urls):
                yield self.of(nth + 1)

    process = CrawlerProcess({"LOG_LEVEL": "ERROR", "TELNETCONSOLE_ENABLED": False})
    process.crawl(Spider)
    process.start()


{"requests": with_requests, "httpx": with_httpx, "aiohttp": with_aiohttp, "scrapy": with_scrapy}[library]()
