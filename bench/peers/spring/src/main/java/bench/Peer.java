package bench;

import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.web.servlet.context.ServletWebServerInitializedEvent;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.event.EventListener;
import org.springframework.messaging.handler.annotation.MessageMapping;
import org.springframework.messaging.simp.annotation.SendToUser;
import org.springframework.messaging.simp.config.ChannelRegistration;
import org.springframework.messaging.simp.config.MessageBrokerRegistry;
import org.springframework.stereotype.Controller;
import org.springframework.web.socket.config.annotation.EnableWebSocketMessageBroker;
import org.springframework.web.socket.config.annotation.StompEndpointRegistry;
import org.springframework.web.socket.config.annotation.WebSocketMessageBrokerConfigurer;
import org.springframework.web.socket.config.annotation.WebSocketTransportRegistration;
import org.springframework.web.socket.server.standard.ServletServerContainerFactoryBean;

/** What trio-stomp is compared with: Spring's simple broker on Tomcat, as its guide sets it up. */
@SpringBootApplication
public class Peer {

    public static void main(String[] args) {
        SpringApplication.run(Peer.class, args);
    }

    /** The harness waits for this line. */
    @EventListener
    void ready(ServletWebServerInitializedEvent event) {
        System.out.println("listening on ws://127.0.0.1:" + event.getWebServer().getPort() + "/ws");
    }

    @Configuration
    @EnableWebSocketMessageBroker
    static class Messaging implements WebSocketMessageBrokerConfigurer {

        /** Threads of the request channel; 0: Spring's own choice, twice the CPUs. */
        @Value("${inbound:0}")
        private int inbound;

        /** Bytes that wait for a slow client, and milliseconds that a write may take; Spring's own: 524288, 10000. */
        @Value("${send-buffer:67108864}")
        private int sendBuffer;

        @Value("${send-time:60000}")
        private int sendTime;

        /** Tomcat's buffer for one message, of each connection: bytes; 8192 is its own choice. */
        @Bean
        ServletServerContainerFactoryBean container(@Value("${text-buffer:8192}") int size) {
            ServletServerContainerFactoryBean container = new ServletServerContainerFactoryBean();
            container.setMaxTextMessageBufferSize(size);
            return container;
        }

        @Override
        public void registerStompEndpoints(StompEndpointRegistry registry) {
            registry.addEndpoint("/ws").setAllowedOriginPatterns("*");
        }

        @Override
        public void configureMessageBroker(MessageBrokerRegistry registry) {
            registry.enableSimpleBroker("/topic", "/queue");
            registry.setApplicationDestinationPrefixes("/app");
        }

        @Override
        public void configureClientInboundChannel(ChannelRegistration registration) {
            if (inbound > 0) {
                registration.taskExecutor().corePoolSize(inbound).maxPoolSize(inbound);
            }
        }

        /** A slow reader is not to be cut off in the scenarios that keep many messages outstanding. */
        @Override
        public void configureWebSocketTransport(WebSocketTransportRegistration registration) {
            registration.setSendBufferSizeLimit(sendBuffer);
            registration.setSendTimeLimit(sendTime);
            registration.setMessageSizeLimit(4 * 1024 * 1024);
        }
    }

    record Echo(String ts, String pad) {
    }

    @Controller
    static class Handlers {

        @MessageMapping("/echo")
        @SendToUser("/queue/echo")
        Echo echo(Echo message) {
            return message;
        }

        /** A blocking call of 20 ms. */
        @MessageMapping("/work")
        @SendToUser("/queue/echo")
        Echo work(Echo message) throws InterruptedException {
            Thread.sleep(20);
            return message;
        }
    }
}
